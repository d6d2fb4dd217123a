"""Contrastive alignment of ImageBind encoders with pictures (`bindserve train encoders`)."""
