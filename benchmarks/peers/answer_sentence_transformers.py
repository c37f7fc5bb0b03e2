"""The first answer of sentence-transformers' ONNX back end, which opens a classifier as a CrossEncoder.

python answer_sentence_transformers.py BUNDLE TEXT FILE, of which FILE is the ONNX file below BUNDLE/onnx
"""

from __future__ import annotations

import sys

from sentence_transformers import CrossEncoder

folder, text, file = sys.argv[1:]
encoder = CrossEncoder(folder, backend="onnx", model_kwargs={"file_name": f"onnx/{file}"}, local_files_only=True)
shares = encoder.predict(text, apply_softmax=True)

if __name__ == "__main__":
    from first_answer import tell

    tell(float(shares[1]))
