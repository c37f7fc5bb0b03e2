"""Weights of TensorFlow, read without TensorFlow: tf_model.h5 of Transformers, and checkpoints of Google's BERT."""
