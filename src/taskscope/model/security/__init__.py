"""Security modules; of them the capabilities, which every kernel has."""
