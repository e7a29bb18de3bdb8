"""Names of what a platform's step leaves beside its outputs."""

from __future__ import annotations

#: Folder of contents, beside the artifacts' addresses.
CONTENTS = ".contents"
#: Below an artifact's address, says where its content is.
POINTER = "CONTENT"
#: In the folder of a step's contents, what a refusal said: the step tried again says the same at once.
REFUSAL = "refused.json"
#: In the same folder, the inputs of the step that made what is there, as the executor input has them.
INPUTS = "inputs.json"
