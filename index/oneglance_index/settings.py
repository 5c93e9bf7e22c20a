"""What can be tuned, each default stated once."""

from typing import Literal

from pydantic import Field

from oneglance_core.frozen import Frozen


class IndexSettings(Frozen):
    """Raises pydantic's ValidationError, a ValueError, for values out of range."""

    max_encodings_per_subject: int = Field(1000, ge=1, description="Encodings one subject may have.")
    max_negatives_per_subject: int = Field(64, ge=1, description="Negatives one subject may have.")
    max_candidates: int = Field(10_000, ge=1, description="Candidates that one probe may ask for.")
    max_page_bytes: int = Field(
        4 << 20, ge=1, description="Bytes of one page of a list, as a message; a single larger entry is a page, too."
    )
    max_queued_bytes: int = Field(
        256 << 20, ge=1, description="Bytes of writes that may wait; a single larger one may wait alone."
    )
    master_key: str = Field(
        "",
        description="Where the master key is: file:PATH, env:NAME, or command:WORDS, of which one prints it as 64"
        " hexadecimal digits. Without it, the file master.key in the data directory, made there.",
    )
    former_master_key: str = Field(
        "", description="Where the master key before that is: as master_key, needed until it was started with both."
    )
    backup_seconds: float = Field(
        0.0, ge=0, description="How long backups are kept, which receipts of deletions tell; 0: they don't."
    )
    sweep_every_seconds: float = Field(
        60.0, gt=0, description="How often subjects whose time is over are looked for, and deleted."
    )
    audit_subjects: Literal["plain", "hashed"] = Field(
        "plain",
        description="How the audit trail calls subjects: plain, by their ids, or hashed, with a key of the store.",
    )
    audit_days: float = Field(
        90.0, ge=0, description="After how many days entries of the audit trail are removed; 0: never."
    )
    request_ttl_seconds: float = Field(
        24 * 3600.0, ge=0, description="How long the ids of requests are remembered, by the wall clock."
    )
    min_requests_kept: int = Field(
        10_000, ge=0, description="Ids of requests that are remembered however old they are: the last ones."
    )
    max_requests_kept: int = Field(
        1_000_000, ge=1, description="Ids of requests of one gallery that are remembered at most, however young."
    )
    snapshot_every_encodings: int = Field(
        100_000, ge=1, description="Enrolled or deleted encodings of a gallery after which its snapshot is renewed."
    )
    search_threads: int = Field(0, ge=0, description="Threads inside one scan; 0 means all cores.")
    row_codes: Literal["int8", "off"] = Field(
        "int8",
        description="Rows a second time in the host's memory, a byte for each number, a quarter more: searches for few"
        " probes read these, and answers are the same; or off. Not on a GPU, which has its own.",
    )
    approximate_checked_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Of the probes with an approximate answer, how many are searched exactly, too, to count decisions"
        " that differ; fewer where that would take more than a twentieth of a core.",
    )
    start_check: Literal["before", "behind"] = Field(
        "before",
        description="When a start looks at every row of the store, and loads galleries: before anything is answered, or"
        " behind, the small galleries first, each answering once it is loaded; where a row is damaged, nothing is"
        " answered any more once it is found. On a GPU and with a Milvus it is before.",
    )
    gpu_temp_memory_bytes: int = Field(
        640 << 20, ge=1 << 20, le=1536 << 20, description="Scratch memory of the index on a GPU."
    )
    gpu_rows: Literal["float32", "float16"] = Field(
        "float32",
        description="Numbers of encodings on a GPU: float16 takes half the memory there, and answers are the same.",
    )
    gpu_lost: Literal["fail", "cpu"] = Field(
        "fail",
        description="When a GPU fails for good: fail, so that health says NOT_SERVING until a restart, or go on on the "
        "cpu, which every answer then tells.",
    )
    engine_token: str = Field(
        "",
        description="Who uses a Milvus: file:PATH or env:NAME, which holds user:password or an API key; empty: nobody.",
    )
    engine_authority: str = Field("", description="The certificate, PEM, of the authority that a Milvus's is from.")
    engine_certificate: str = Field(
        "", description="The certificate, PEM, that is shown to a Milvus that asks for one."
    )
    engine_key: str = Field("", description="That certificate's key, PEM, without a password.")
    engine_copy_seconds: float = Field(
        0.0,
        ge=0,
        description="How long a Milvus may have copies of what was deleted, which receipts of deletions tell; 0: they"
        " don't.",
    )
