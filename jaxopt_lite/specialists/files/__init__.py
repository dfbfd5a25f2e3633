"""Bases and specialists on disk: one safetensors file each. A library is a folder, and the files in it are the library.

A file of a specialist holds, besides its arrays (`parameters/...` and `profile/...`), text metadata:

| key | meaning |
|---|---|
| `base`, `base_name`, `tokenizer` | the base it belongs to: name and fingerprints |
| `adapter` | `Adapter.spec()` as JSON |
| `card` | its `Card` as JSON |
| `id` | its content hash, as in `Library.ids` |
| `order` | its position in the library: an integer, smaller ones first |
| `format`, `version`, `checksum` | what the file is; a SHA-256 of all of its content |

Nothing in a file is code. The checksum finds accidents and edits; it is not a signature.

`folder` says how `save` makes all its changes at once. Version 1 had no `order`, and kept the order in an
`index.json`, which is still read.

Files, in reading order; each imports only from those above it:

- `bases`: the parameters of a base, one file.
- `specialist`: one specialist as a file.
- `folder`: the files that a folder holds, also while it is being saved to.
- `reading`: `load`.
- `writing`: `save`.
"""
