"""A system of specialists: one base model, very many tiny adapters, fitted in one batched solve, routed by input.

Files, in reading order; each imports only from those above it:

- `arguments`: checks of users' arguments, and copies of arrays.
- `activations`: a changed model computed on its activations, so that each input of a batch can have its own change.
- `leaves`: the leaves of a pytree by name, and a digest of named arrays.
- `adapters`: what a specialist changes of the base's parameters: IA3, LoRA, Shift.
- `base`: the one model that all share.
- `tasks`: ragged examples as few arrays.
- `sums`: sums and means over many examples, some at a time.
- `library`: very many specialists of a base, stacked; serving them.
- `hoist`: computes once what does not depend on the adapter.
- `fit`: the adapters of all tasks in one batched solve.

To keep, to choose, to combine:

- `tensor_files`: safetensors with a checksum.
- `files/`: bases and libraries on disk.
- `peft/`: specialists to and from adapters of PEFT.
- `tiles`: arithmetic on rows, with the same bits among any number of them.
- `routing`: every input to the specialists with the best score, or to the base.
- `features`: what routers see of the inputs of tasks.
- `routers/`: where the scores come from.
- `merging/`: one specialist out of several.
- `mixing`: learned weights over the specialists there are.
- `fisher`: the diagonal of the Fisher information.
- `embedding`: tasks as vectors, and how far they are apart.

To judge:

- `report`: what an evaluation found.
- `evaluate`: a system against its alternatives.
- `language`: text as examples, and a small language model.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
