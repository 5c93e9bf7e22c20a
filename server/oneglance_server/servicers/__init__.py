"""gRPC and protobuf on one side, the service layer on the other: from_pb, one call, to_pb. No rules here."""
