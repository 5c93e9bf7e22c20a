"""The rules. Knows neither grpc nor protobuf; everything it refuses is in oneglance_server.errors."""
