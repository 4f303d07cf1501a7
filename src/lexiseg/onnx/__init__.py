"""A model as ONNX graphs, and a segmenter that runs them without torch.

labels ─ prompts ─ tokens ─ text.onnx ─ mean direction of each label ─┐
                                                                      ├─ head.onnx ─ logits ─ scores
picture ─ resize, normalise ─ image.onnx ─ patch features, layers ────┘

``export.py`` and ``graphs.py`` need torch; ``segmenter.py`` and ``arrays.py`` do not.
"""

from lexiseg.onnx.segmenter import OnnxSegmenter as OnnxSegmenter
