"""`triton-canary gate`: compares a candidate with the stable side, for pipelines. Prints; changes nothing."""
