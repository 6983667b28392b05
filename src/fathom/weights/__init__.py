"""Other libraries' files of trained weights: one file per family says how its names and settings map to our model.

Each has MODEL (the file in models/), MODEL_TYPES (of config.json), EXAMPLES (blueprints for the contract tests), `read`
and `write` (settings to a blueprint and back), `names` (of tensors, ours to theirs), TRANSPOSED (ours that they keep as
[in, out]) and LEFT_OVER (theirs that no model needs). Where they have reason to, also

- `measured(model)`: options that a built model tells, for one that was built with `size` or `depth` alone
- `tidied(tensors, blueprint)`: tensors of old files under the names of new ones
- DUPLICATES: names under which a file may hold one of our tensors again, which must then be equal to it
"""
