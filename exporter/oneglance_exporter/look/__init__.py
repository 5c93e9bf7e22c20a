"""What the layers of an encoder learned: the patches of the input that excite each unit most (Zeiler & Fergus 2013)."""
