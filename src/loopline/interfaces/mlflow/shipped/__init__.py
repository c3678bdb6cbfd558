"""Code that goes to clients inside a model's folder; it needs onnxruntime and NumPy, not Loopline."""
