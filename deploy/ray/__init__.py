"""bindserve on Ray Serve: the same server, with encoders and retrieval in separate replicas.

    serve run deploy.ray.app:build model=/models/imagebind-llm          (on one machine)
    serve deploy deploy/ray/serve.yaml                                  (on a cluster)

The processes of one Ray cluster must trust each other, because Ray moves pickled Python objects
between them. bindserve's replicas exchange bytes in the formats of `server/encoding/messages.py`,
and unpickle no data from clients.
"""
