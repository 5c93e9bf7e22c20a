"""The oneglance server: runs encoders, decides, serves ``oneglance.v1`` over gRPC.

::

    app          the composition root: settings in, running server out
    servicers    gRPC and protobuf on one side, plain values on the other; nothing else
    service      the rules: who may compare with what, which tau applies, what is unknown
    engines      what computes: encoder, picture decoding, coalescing

Layers point downwards only; ``service`` and ``engines`` know neither grpc nor protobuf.
"""
