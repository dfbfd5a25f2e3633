#!/usr/bin/env bash
# PEFT 0.21.2: three lists of module names in one configuration choose modules by two rules.
#
# A name in `target_modules` means the module of that name, or one whose name ends in a dot and it. A name in
# `modules_to_save`, and one in IA3's `feedforward_modules`, means every module whose name ends in it, dot or not. So
# `modules_to_save=["score"]` also copies, trains and saves `underscore`; and with IA3 a target `out_proj` has its inputs
# scaled, and not its outputs, because `proj` is a feed-forward module. The documentation says of `feedforward_modules`
# that they are a subset of `target_modules`, and of `modules_to_save` that it is a list of modules. A whole name with a
# dot in it does not help a module at the top; a pattern does, which `modules_to_save` does not take.
#
# Seen: saved whole: ['score', 'underscore']; LoRA: ['proj']; IA3 of inputs: ['out_proj', 'proj'], of outputs: [].
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'peft==0.21.2' 'torch==2.13.0' 'transformers==5.24.0' 'numpy<3'
cat >"$folder/lists.py" <<'PYTHON'
import peft
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        for name in ("score", "underscore", "proj", "out_proj"):
            setattr(self, name, nn.Linear(2, 3))


def trained(config):
    model = peft.get_peft_model(Model(), config)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield name.removeprefix("base_model.model.").partition(".")[0], name, parameter.shape


lora = list(trained(peft.LoraConfig(target_modules=["proj"], modules_to_save=["score"])))
saved = sorted({module for module, name, _ in lora if "modules_to_save" in name})
adapted = sorted({module for module, name, _ in lora if "lora_" in name})
ia3 = list(trained(peft.IA3Config(target_modules=["proj", "out_proj"], feedforward_modules=["proj"])))
inputs = sorted(module for module, _, shape in ia3 if shape == (1, 2))
outputs = sorted(module for module, _, shape in ia3 if shape == (3, 1))
print("peft", peft.__version__, "saved whole:", saved, "LoRA:", adapted, "IA3 of inputs:", inputs, "of outputs:", outputs)
as_seen = (saved, adapted, inputs, outputs) == (["score", "underscore"], ["proj"], ["out_proj", "proj"], [])
raise SystemExit(0 if as_seen else "the lists choose otherwise: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/lists.py"
