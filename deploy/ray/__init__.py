"""bindserve on Ray Serve: the same server, whose encoders and retrieval are replicas of their own.

    serve run deploy.ray.app:build model=/models/imagebind-llm          (on one machine)
    serve deploy deploy/ray/serve.yaml                                  (on a cluster)

Processes of one Ray cluster trust each other: Ray itself moves Python objects between them. What
we send between replicas is bytes in our own formats; what a client wrote is never unpickled.
"""
