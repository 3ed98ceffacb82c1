"""Kinds of parts, one module a kind (group `parts` of `steer_core.extensions`).

A module has

* `SPEC`: the `PartSpec` subclass that reads its settings;
* `build(spec, label, setting)`: the part (`steer_core.methods.part.Part`), or, where `STEPS` is true, the strategy that
  steps (`steer_core.methods.protocol.Method`);
* optionally `STEPS = True`: parts of this kind write the prompt; a method has at most one;
* optionally `NODE`, `DESCRIPTION` and `FITS`: name and description of the node that fits parts of this kind, and its
  steps (`steer_core.methods.fitting.FitStep`); without them there is nothing to fit, and no table. `GIVES` names those
  of its tables that `give`, `sweep` and `give_sweep` read, so that others change no answers; without it, all;
* optionally `build_rule(settings, tensors)`: a decoding rule of the module's name (`steer_core.generation.decoding`).

What a cell's page says of a kind's tables is an extension of the group `sections`, of the kind's name.

Nothing outside a module here knows its kind.
"""
