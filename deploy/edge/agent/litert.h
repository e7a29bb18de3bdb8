/* What the agent calls of LiteRT's C API (litert/c/ of github.com/google-ai-edge/LiteRT, version 2.3): the wheel brings
   the library, libLiteRt.so, without its headers. */
#ifndef ADCLICK_EDGE_LITERT_H
#define ADCLICK_EDGE_LITERT_H

#include <stddef.h>
#include <stdint.h>

typedef int LiteRtStatus;
typedef size_t LiteRtParamIndex;
typedef struct LiteRtEnvironmentT *LiteRtEnvironment;
typedef struct LiteRtModelT *LiteRtModel;
typedef struct LiteRtOptionsT *LiteRtOptions;
typedef struct LiteRtCompiledModelT *LiteRtCompiledModel;
typedef struct LiteRtSubgraphT *LiteRtSubgraph;
typedef struct LiteRtTensorT *LiteRtTensor;
typedef struct LiteRtTensorBufferT *LiteRtTensorBuffer;

enum { kLiteRtStatusOk = 0, kLiteRtHwAcceleratorCpu = 1, kLiteRtElementTypeFloat32 = 1, kLiteRtTensorBufferTypeHostMemory = 1 };
enum { kLiteRtTensorBufferLockModeRead = 0, kLiteRtTensorBufferLockModeWrite = 1 };

typedef struct {
  unsigned int rank : 7;
  unsigned int has_strides : 1;
  int32_t dimensions[8];
  uint32_t strides[8];
} LiteRtLayout;

typedef struct {
  int element_type;
  LiteRtLayout layout;
} LiteRtRankedTensorType;
_Static_assert(sizeof(LiteRtRankedTensorType) == 72, "as litert_model_types.h asserts");

LiteRtStatus LiteRtCreateEnvironment(int num_options, const void *options, LiteRtEnvironment *environment);
LiteRtStatus LiteRtCreateModelFromBuffer(LiteRtEnvironment, const void *buffer, size_t size, LiteRtModel *model);
LiteRtStatus LiteRtCreateOptions(LiteRtOptions *options);
LiteRtStatus LiteRtSetOptionsHardwareAccelerators(LiteRtOptions options, int accelerators);
LiteRtStatus LiteRtCreateCompiledModel(LiteRtEnvironment, LiteRtModel, LiteRtOptions, LiteRtCompiledModel *compiled);
LiteRtStatus LiteRtGetMainModelSubgraphIndex(LiteRtModel, LiteRtParamIndex *index);
LiteRtStatus LiteRtGetModelSubgraph(LiteRtModel, LiteRtParamIndex index, LiteRtSubgraph *subgraph);
LiteRtStatus LiteRtGetNumSubgraphInputs(LiteRtSubgraph, LiteRtParamIndex *count);
LiteRtStatus LiteRtGetNumSubgraphOutputs(LiteRtSubgraph, LiteRtParamIndex *count);
LiteRtStatus LiteRtGetSubgraphInput(LiteRtSubgraph, LiteRtParamIndex index, LiteRtTensor *tensor);
LiteRtStatus LiteRtGetSubgraphOutput(LiteRtSubgraph, LiteRtParamIndex index, LiteRtTensor *tensor);
LiteRtStatus LiteRtGetRankedTensorType(LiteRtTensor, LiteRtRankedTensorType *type);
LiteRtStatus LiteRtCreateManagedTensorBuffer(LiteRtEnvironment, int buffer_type, const LiteRtRankedTensorType *type,
                                             size_t size, LiteRtTensorBuffer *buffer);
LiteRtStatus LiteRtLockTensorBuffer(LiteRtTensorBuffer, void **memory, int mode);
LiteRtStatus LiteRtUnlockTensorBuffer(LiteRtTensorBuffer);
LiteRtStatus LiteRtRunCompiledModel(LiteRtCompiledModel, LiteRtParamIndex signature, size_t inputs,
                                    LiteRtTensorBuffer *input, size_t outputs, LiteRtTensorBuffer *output);

#endif
