"""bindserve on Ray Serve: the same server, with encoders and retrieval in separate replicas.

    serve run deploy.ray.app:build model=/models/imagebind-llm          (on one machine)
    serve deploy deploy/ray/serve.yaml                                  (on a cluster)

Processes of one Ray cluster trust each other, because Ray moves pickled Python objects between
them. Our replicas exchange bytes in the formats of `server/encoding/messages.py`. They unpickle
nothing that a client sends.
"""
