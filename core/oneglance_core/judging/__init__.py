"""Judge an encoder by labelled encodings, whoever made them: figures with intervals, a paired test of two encoders, and
one HTML page that shows all of it.

    people = read_encodings("mine.npz")         # or LabelledEncodings, made from a folder or by a running server
    judgement = judge(people)
    write_report("mine.html", "mine", judgement)
    print(compare(people, read_encodings("other.npz")))
"""
