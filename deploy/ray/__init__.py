"""bindserve on Ray Serve: the same server, with encoders and retrieval in replicas of their own.

    serve run deploy.ray.app:build model=/models/imagebind-llm          (on one machine)
    serve deploy deploy/ray/serve.yaml                                  (on a cluster)

Processes of one Ray cluster trust each other, because Ray moves pickled Python objects between
them. Our replicas exchange bytes in the formats of `encoding_messages`. Nothing that a client sends
is unpickled.
"""
