/* A recogniser as serving/edge/recogniser.py has it, by LiteRT's C API: float32 [1, S, S, 3] to float32 [1, D]. */
#include <string.h>

#include "agent.h"
#include "litert.h"

struct Recogniser {
  LiteRtCompiledModel compiled;
  LiteRtTensorBuffer input, output;
  size_t input_bytes, output_bytes;
};

static void check(LiteRtStatus status, const char *what) {
  if (status != kLiteRtStatusOk) refuse("unfit", "recogniser.tflite: LiteRT: %s failed with status %d", what, status);
}
#define CHECK(call) check((call), #call)

Recogniser *load_recogniser(Part model, size_t *side, size_t *dimension) {
  enum { ALIGNMENT = 64 };
  Recogniser *made = allocate(sizeof *made);
  /* Within the archive it lies anywhere. */
  size_t padded = (model.size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  void *buffer = aligned_alloc(ALIGNMENT, padded ? padded : ALIGNMENT);
  if (!buffer) fail(EXIT_WRONG, "no memory");
  memcpy(buffer, model.content, model.size);
  LiteRtEnvironment environment;
  LiteRtModel loaded;
  LiteRtOptions options;
  CHECK(LiteRtCreateEnvironment(0, NULL, &environment));
  CHECK(LiteRtCreateModelFromBuffer(environment, buffer, model.size, &loaded));
  LiteRtParamIndex main_subgraph, inputs, outputs;
  LiteRtSubgraph subgraph;
  LiteRtTensor tensor;
  LiteRtRankedTensorType given, taken;
  CHECK(LiteRtGetMainModelSubgraphIndex(loaded, &main_subgraph));
  CHECK(LiteRtGetModelSubgraph(loaded, main_subgraph, &subgraph));
  CHECK(LiteRtGetNumSubgraphInputs(subgraph, &inputs));
  CHECK(LiteRtGetNumSubgraphOutputs(subgraph, &outputs));
  if (inputs != 1 || outputs != 1) refuse("unfit", "recogniser.tflite: %zu inputs, %zu outputs", inputs, outputs);
  CHECK(LiteRtGetSubgraphInput(subgraph, 0, &tensor));
  CHECK(LiteRtGetRankedTensorType(tensor, &given));
  CHECK(LiteRtGetSubgraphOutput(subgraph, 0, &tensor));
  CHECK(LiteRtGetRankedTensorType(tensor, &taken));
  const int32_t *in = given.layout.dimensions, *out = taken.layout.dimensions;
  if (given.element_type != kLiteRtElementTypeFloat32 || taken.element_type != kLiteRtElementTypeFloat32 ||
      given.layout.rank != 4 || in[0] != 1 || in[1] != in[2] || in[1] < 1 || in[3] != 3 || taken.layout.rank != 2 ||
      out[0] != 1 || out[1] < 1)
    refuse("unfit", "recogniser.tflite: wants float32 [1, S, S, 3] to float32 [1, D]");
  *side = (size_t)in[1];
  *dimension = (size_t)out[1];
  made->input_bytes = *side * *side * 3 * sizeof(float);
  made->output_bytes = *dimension * sizeof(float);
  CHECK(LiteRtCreateOptions(&options));
  CHECK(LiteRtSetOptionsHardwareAccelerators(options, kLiteRtHwAcceleratorCpu));
  CHECK(LiteRtCreateCompiledModel(environment, loaded, options, &made->compiled));
  CHECK(LiteRtCreateManagedTensorBuffer(environment, kLiteRtTensorBufferTypeHostMemory, &given, made->input_bytes, &made->input));
  CHECK(LiteRtCreateManagedTensorBuffer(environment, kLiteRtTensorBufferTypeHostMemory, &taken, made->output_bytes, &made->output));
  return made;
}

void embed(Recogniser *recogniser, const float *pixels, float *embedding) {
  void *memory;
  CHECK(LiteRtLockTensorBuffer(recogniser->input, &memory, kLiteRtTensorBufferLockModeWrite));
  memcpy(memory, pixels, recogniser->input_bytes);
  CHECK(LiteRtUnlockTensorBuffer(recogniser->input));
  CHECK(LiteRtRunCompiledModel(recogniser->compiled, 0, 1, &recogniser->input, 1, &recogniser->output));
  CHECK(LiteRtLockTensorBuffer(recogniser->output, &memory, kLiteRtTensorBufferLockModeRead));
  memcpy(embedding, memory, recogniser->output_bytes);
  CHECK(LiteRtUnlockTensorBuffer(recogniser->output));
}
