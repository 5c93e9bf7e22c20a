"""The same contract over HTTP/1.1: JSON and encoded messages by the protocols of Connect and gRPC-Web.

A call goes the way of every other from CallInterceptor on; here is only what HTTP has otherwise than gRPC.
"""
