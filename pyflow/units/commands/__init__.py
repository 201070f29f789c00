"""The commands of ``pyflow-units``, by what they are for."""
