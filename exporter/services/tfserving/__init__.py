"""TensorFlow Serving's Predict API. Never imports another kind."""
