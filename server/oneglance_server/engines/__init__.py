"""What computes, behind small interfaces. Knows neither grpc nor protobuf."""
