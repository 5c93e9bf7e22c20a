"""Numbers of the contract that client and server share; ``v1/*.proto`` tells them, too."""

SERVER_ADDRESS = "127.0.0.1:50051"
MAX_MESSAGE_BYTES = 64 << 20  # of a gRPC message, in either direction
PAGE_SIZE = 100  # of a list, where the request has 0
MAX_PAGE_SIZE = 1000
FILLED_AT_ONCE = 32  # subjects that the client has a call of FillFromCrops look at: some seconds
