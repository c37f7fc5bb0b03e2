"""models: model folders, how they are found, inspected, loaded and saved, and what is cut from BERT and its vocabulary."""

from edgebert.core.former_names import attributes_of

__getattr__ = attributes_of(__name__, "load")
