"""Adapters of PEFT: a specialist as a folder that PEFT loads, and such a folder as a specialist.

- `settings`: what `adapter_config.json` says, by PEFT's own rules.
- `names`: how a base's leaves are called in a PyTorch model.
- `saving`: a specialist as such a folder.
- `loading`: such a folder as a specialist.
"""
