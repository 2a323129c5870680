// The CUDA driver, cuBLASLt and cuDNN 9 as far as this program calls them, on paper: nothing is computed and replays do
// nothing, but every call is held to the rules a device has. One library under three names; device memory is host memory.
//
// Looked at: a context is current on the calling thread; nothing that waits, allocates, frees, loads or copies to or from
// the host happens while a stream is recorded, nor a launch into another; launches are within every device's limits; what is
// set, copied, multiplied and convolved lies inside what was allocated; descriptors and handles live and are finished when
// they are named. At the end a line says how many rules were broken and how much was never given back.
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
typedef uint64_t place;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread void* context;
static __thread void* recorded;  // the stream that this thread records
static long n_wrong, n_launches, n_replays, n_left;

struct memory { place start; size_t bytes; struct memory* next; };
static struct memory* memories;
static size_t used_bytes;

static void wrong(const char* format, ...) {
  char text[256];
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof text, format, values);
  va_end(values);
  __sync_fetch_and_add(&n_wrong, 1);
  fprintf(stderr, "paper: %s\n", text);
}
static void in_context(const char* call) { if (!context) wrong("%s without a context", call); }
static void not_recording(const char* call) {
  in_context(call);
  if (recorded) wrong("%s while a stream is recorded", call);
}
static void inside(const char* what, place start, size_t bytes) {
  int found = 0;
  pthread_mutex_lock(&lock);
  for (struct memory* m = memories; m && !found; m = m->next) found = start >= m->start && start + bytes <= m->start + m->bytes;
  pthread_mutex_unlock(&lock);
  if (!bytes || !found) wrong("%s: %zu bytes at %#llx are not allocated", what, bytes, (unsigned long long)start);
}
static void count(long by) { __sync_fetch_and_add(&n_left, by); }
static size_t memory_bytes(void) {
  const char* text = getenv("PAPER_BYTES");
  return text ? strtoull(text, 0, 10) : (size_t)8 << 30;
}
static void report(void) {
  fprintf(stderr, "paper: %ld wrong, %ld left, %zu bytes left, %ld launches, %ld replays\n", n_wrong, n_left, used_bytes,
          n_launches, n_replays);
}

// The driver.
EXPORT int cuInit(unsigned flags) {
  static int n_calls;
  if (!__sync_fetch_and_add(&n_calls, 1)) atexit(report);
  return flags ? 1 : 0;
}
EXPORT int cuDriverGetVersion(int* version) { return *version = 13000, 0; }
EXPORT int cuDeviceGetCount(int* n) { return *n = 1, 0; }
EXPORT int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, 0; }
EXPORT int cuDeviceGetName(char* name, int room, int device) { return snprintf(name, room, "a GPU on paper %d", device), 0; }
// 75 and 76 are the numbers of the compute capability, which is 9.0.
EXPORT int cuDeviceGetAttribute(int* value, int attribute, int device) { return *value = attribute == 75 ? 9 : device * 0, 0; }
EXPORT int cuDeviceTotalMem_v2(size_t* bytes, int device) { return *bytes = memory_bytes(), device * 0; }
EXPORT int cuDevicePrimaryCtxRetain(void** handle, int device) { return count(1), *handle = &lock, device * 0; }
EXPORT int cuDevicePrimaryCtxRelease_v2(int device) { return count(-1), device * 0; }
EXPORT int cuCtxSetCurrent(void* handle) { return context = handle, 0; }
EXPORT int cuMemGetInfo_v2(size_t* free_bytes, size_t* all) {
  in_context("cuMemGetInfo");
  return *all = memory_bytes(), *free_bytes = *all - used_bytes, 0;
}
EXPORT int cuMemAlloc_v2(place* start, size_t bytes) {
  not_recording("cuMemAlloc");
  if (bytes + used_bytes > memory_bytes()) return 2;
  struct memory* m = malloc(sizeof *m);
  void* found = 0;
  if (!bytes || posix_memalign(&found, 512, bytes)) return 1;
  *m = (struct memory){(place)(uintptr_t)found, bytes, 0};
  pthread_mutex_lock(&lock);
  m->next = memories, memories = m, used_bytes += bytes;
  pthread_mutex_unlock(&lock);
  return *start = m->start, 0;
}
EXPORT int cuMemFree_v2(place start) {
  not_recording("cuMemFree");
  pthread_mutex_lock(&lock);
  struct memory** at = &memories;
  while (*at && (*at)->start != start) at = &(*at)->next;
  struct memory* m = *at;
  if (m) *at = m->next, used_bytes -= m->bytes;
  pthread_mutex_unlock(&lock);
  if (!m) return wrong("cuMemFree of what was not allocated"), 1;
  return free((void*)(uintptr_t)start), free(m), 0;
}
EXPORT int cuMemAllocHost_v2(void** start, size_t bytes) { return not_recording("cuMemAllocHost"), count(1), *start = malloc(bytes), 0; }
EXPORT int cuMemFreeHost(void* start) { return not_recording("cuMemFreeHost"), count(-1), free(start), 0; }

static int made(const char* call, void** handle) { return in_context(call), count(1), *handle = calloc(1, 64), 0; }
static int gone(const char* call, void* handle) { return in_context(call), count(-1), free(handle), 0; }
EXPORT int cuStreamCreate(void** stream, unsigned flags) {
  if (flags != 1) wrong("a stream that waits for the default one");
  return made("cuStreamCreate", stream);
}
EXPORT int cuStreamDestroy_v2(void* stream) { return gone("cuStreamDestroy", stream); }
EXPORT int cuStreamSynchronize(void* stream) { return not_recording("cuStreamSynchronize"), stream ? 0 : 1; }
EXPORT int cuStreamWaitEvent(void* stream, void* event, unsigned flags) { return in_context("cuStreamWaitEvent"), stream && event && !flags ? 0 : 1; }
EXPORT int cuEventCreate(void** event, unsigned flags) { return flags == 2 ? made("cuEventCreate", event) : 1; }
EXPORT int cuEventRecord(void* event, void* stream) { return in_context("cuEventRecord"), event && stream ? 0 : 1; }
EXPORT int cuEventSynchronize(void* event) { return not_recording("cuEventSynchronize"), event ? 0 : 1; }
EXPORT int cuEventDestroy_v2(void* event) { return gone("cuEventDestroy", event); }
EXPORT int cuStreamBeginCapture_v2(void* stream, int mode) {
  not_recording("cuStreamBeginCapture");
  if (mode != 1) wrong("a recording that forbids other threads to allocate");
  return recorded = stream, 0;
}
EXPORT int cuStreamEndCapture(void* stream, void** graph) {
  if (recorded != stream) wrong("a recording ends that did not begin");
  return recorded = 0, made("cuStreamEndCapture", graph);
}
enum { ALIVE = 77 };
EXPORT int cuGraphInstantiateWithFlags(void** made_of, void* graph, unsigned long long flags) {
  made("cuGraphInstantiate", made_of);
  *(int*)*made_of = ALIVE;
  return graph && !flags ? 0 : 1;
}
EXPORT int cuGraphUpload(void* graph, void* stream) { return in_context("cuGraphUpload"), graph && stream ? 0 : 1; }
EXPORT int cuGraphLaunch(void* graph, void* stream) {
  not_recording("cuGraphLaunch");
  __sync_fetch_and_add(&n_replays, 1);
  return *(int*)graph == ALIVE && stream ? 0 : 1;
}
EXPORT int cuGraphDestroy(void* graph) { return gone("cuGraphDestroy", graph); }
EXPORT int cuGraphExecDestroy(void* graph) { return *(int*)graph = 0, gone("cuGraphExecDestroy", graph); }

EXPORT int cuMemsetD8Async(place to, unsigned char value, size_t bytes, void* stream) {
  in_context("cuMemsetD8Async"), inside("cuMemsetD8Async", to, bytes);
  if (!recorded) memset((void*)(uintptr_t)to, value, bytes);
  return stream ? 0 : 1;
}
EXPORT int cuMemcpyHtoDAsync_v2(place to, const void* from, size_t bytes, void* stream) {
  not_recording("cuMemcpyHtoDAsync"), inside("cuMemcpyHtoDAsync", to, bytes);
  return memcpy((void*)(uintptr_t)to, from, bytes), stream ? 0 : 1;
}
EXPORT int cuMemcpyDtoHAsync_v2(void* to, place from, size_t bytes, void* stream) {
  not_recording("cuMemcpyDtoHAsync"), inside("cuMemcpyDtoHAsync", from, bytes);
  return memcpy(to, (void*)(uintptr_t)from, bytes), stream ? 0 : 1;
}
EXPORT int cuMemcpyDtoDAsync_v2(place to, place from, size_t bytes, void* stream) {
  in_context("cuMemcpyDtoDAsync"), inside("cuMemcpyDtoDAsync to", to, bytes), inside("cuMemcpyDtoDAsync from", from, bytes);
  if (!recorded) memmove((void*)(uintptr_t)to, (void*)(uintptr_t)from, bytes);
  return stream ? 0 : 1;
}
EXPORT int cuModuleLoadData(void** module, const void* code) {
  not_recording("cuModuleLoadData");
  if (memcmp(code, "\177ELF", 4)) wrong("a module that is no machine code");
  return made("cuModuleLoadData", module);
}
EXPORT int cuModuleUnload(void* module) { return gone("cuModuleUnload", module); }
EXPORT int cuModuleGetFunction(void** function, void* module, const char* name) {
  static char known[64];
  return in_context("cuModuleGetFunction"), *function = known, module && *name ? 0 : 1;
}
EXPORT int cuFuncSetAttribute(void* function, int attribute, int value) {
  if (attribute != 8 || value > 101376) wrong("attribute %d of a kernel as %d", attribute, value);
  return function ? 0 : 1;
}
EXPORT int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned i, unsigned j, unsigned k, unsigned shared_bytes,
                          void* stream, void** arguments, void** more) {
  in_context("cuLaunchKernel");
  __sync_fetch_and_add(&n_launches, 1);
  int grid = x && x < 1u << 31 && y && y < 65536 && z && z < 65536, block = i && j && k && k <= 64 && (uint64_t)i * j * k <= 1024;
  if (!grid || !block || shared_bytes > 101376) wrong("%ux%ux%u blocks of %ux%ux%u threads", x, y, z, i, j, k);
  if (recorded && stream != recorded) wrong("a launch beside the recording");
  return function && stream && arguments && !more ? 0 : 1;
}
// NVRTC asks these of a driver that it finds, and takes no for an answer.
EXPORT int cuGetExportTable(const void** table, const void* name) { return *table = 0, name ? 500 : 1; }
EXPORT int cuGetProcAddress(const char* name, void** function, int version, uint64_t flags) { return *function = 0, 500; }
EXPORT int cuGetProcAddress_v2(const char* name, void** function, int version, uint64_t flags, void* found) { return *function = 0, 500; }

// cuBLASLt.
enum { PRODUCT_BYTES = 1 << 20 };
struct layout { unsigned type; uint64_t rows, columns; int64_t leading; };
EXPORT size_t cublasLtGetVersion(void) { return 130400; }
EXPORT int cublasLtCreate(void** handle) { return not_recording("cublasLtCreate"), made("cublasLtCreate", handle); }
EXPORT int cublasLtDestroy(void* handle) { return gone("cublasLtDestroy", handle); }
// CUBLAS_COMPUTE_32F and CUDA_R_32F.
EXPORT int cublasLtMatmulDescCreate(void** it, unsigned compute, unsigned scale) {
  if (compute != 68 || scale != 0) wrong("a product that is not summed in f32");
  return made("cublasLtMatmulDescCreate", it);
}
EXPORT int cublasLtMatmulDescDestroy(void* it) { return gone("cublasLtMatmulDescDestroy", it); }
EXPORT int cublasLtMatmulDescSetAttribute(int* it, unsigned attribute, const int* value, size_t bytes) {
  if ((attribute != 3 && attribute != 4) || bytes != 4) return 7;
  return it[attribute] = *value, 0;
}
EXPORT int cublasLtMatrixLayoutCreate(struct layout** it, unsigned type, uint64_t rows, uint64_t columns, int64_t leading) {
  if ((type != 0 && type != 14) || !rows || !columns || leading < (int64_t)rows) wrong("a matrix that cannot lie like that");
  made("cublasLtMatrixLayoutCreate", (void**)it);
  return **it = (struct layout){type, rows, columns, leading}, 0;
}
EXPORT int cublasLtMatrixLayoutDestroy(void* it) { return gone("cublasLtMatrixLayoutDestroy", it); }
EXPORT int cublasLtMatmulPreferenceCreate(void** it) { return made("cublasLtMatmulPreferenceCreate", it); }
EXPORT int cublasLtMatmulPreferenceDestroy(void* it) { return gone("cublasLtMatmulPreferenceDestroy", it); }
EXPORT int cublasLtMatmulPreferenceSetAttribute(void* it, unsigned attribute, const void* value, size_t bytes) {
  int known = (attribute == 1 && bytes == 8) || (attribute == 3 && bytes == 4) || (attribute >= 5 && attribute <= 8 && bytes == 4);
  return it && value && known ? 0 : 7;
}
struct found { uint64_t algorithm[8]; size_t workspace_bytes; int state; float waves; int reserved[4]; };
EXPORT int cublasLtMatmulAlgoGetHeuristic(void* handle, int* it, struct layout* a, struct layout* b, struct layout* c, struct layout* d,
                                          void* preference, int room, struct found* found, int* n) {
  uint64_t m = it[3] ? a->columns : a->rows, k = it[3] ? a->rows : a->columns;
  uint64_t inner = it[4] ? b->columns : b->rows, columns = it[4] ? b->rows : b->columns;
  if (m != d->rows || columns != d->columns || k != inner || c->type != d->type) wrong("a product of matrices that do not fit");
  *found = (struct found){{0}, PRODUCT_BYTES, 0, 1.0f, {0}};
  return *n = 1, handle && preference && room ? 0 : 7;
}
// Of all settings the split of the inner size, number 2, is 1.
EXPORT int cublasLtMatmulAlgoConfigGetAttribute(void* algorithm, unsigned setting, void* value, size_t bytes, size_t* written) {
  memset(value, 0, bytes);
  if (setting == 2) *(int*)value = 1;
  return *written = bytes, algorithm ? 0 : 7;
}
// Fused multiply-adds, sums and inputs in f32.
EXPORT int cublasLtMatmulAlgoCapGetAttribute(void* algorithm, unsigned capability, void* value, size_t bytes, size_t* written) {
  return *(uint64_t*)value = 1 | 2 << 8 | 8 << 16, *written = bytes, algorithm && capability ? 0 : 7;
}
EXPORT const char* cublasLtGetStatusString(int status) { return status ? "refused on paper" : "fine"; }
static void holds(const char* what, place start, struct layout* it) {
  size_t number_bytes = it->type == 0 ? 4 : 2;
  inside(what, start, ((it->columns - 1) * it->leading + it->rows) * number_bytes);
}
EXPORT int cublasLtMatmul(void* handle, void* it, const float* alpha, place a, struct layout* of_a, place b, struct layout* of_b,
                          const float* beta, place c, struct layout* of_c, place d, struct layout* of_d, void* algorithm,
                          place workspace, size_t bytes, void* stream) {
  in_context("cublasLtMatmul");
  if (*alpha != 1.0f || (*beta != 0.0f && *beta != 1.0f) || c != d || of_c != of_d) wrong("a product that is scaled");
  if (recorded && stream != recorded) wrong("a product beside the recording");
  holds("a", a, of_a), holds("b", b, of_b), holds("c", d, of_d), inside("a product's workspace", workspace, bytes);
  return handle && it && algorithm && stream && bytes == PRODUCT_BYTES ? 0 : 7;
}

// cuDNN: every heuristic knows one engine, number 42, without knobs or remarks.
enum { PLAN_BYTES = 3 << 20, HANDLE = 5, DESCRIPTOR = 6 };
struct handle { int what; void* stream; };
struct descriptor { int what, finished, n_places; place places[3], workspace; };
EXPORT size_t cudnnGetVersion(void) { return 92600; }
EXPORT size_t cudnnGetCudartVersion(void) { return 13000; }
EXPORT int cudnnCreate(struct handle** it) { return not_recording("cudnnCreate"), made("cudnnCreate", (void**)it), (*it)->what = HANDLE, 0; }
EXPORT int cudnnDestroy(struct handle* it) { return it->what = 0, gone("cudnnDestroy", it); }
EXPORT int cudnnSetStream(struct handle* it, void* stream) { return not_recording("cudnnSetStream"), it->stream = stream, stream ? 0 : 1; }
EXPORT int cudnnBackendCreateDescriptor(unsigned kind, struct descriptor** it) {
  count(1), *it = calloc(1, sizeof **it), (*it)->what = DESCRIPTOR;
  return kind < 64 ? 0 : 1;
}
EXPORT int cudnnBackendDestroyDescriptor(struct descriptor* it) { return it->what = 0, count(-1), free(it), 0; }
EXPORT int cudnnBackendSetAttribute(struct descriptor* it, unsigned attribute, unsigned type, int64_t n, const void* values) {
  if (it->what != DESCRIPTOR || it->finished || n < 1) wrong("attribute %u of a descriptor that is finished or gone", attribute);
  if (type == 15)
    for (int64_t i = 0; i < n; ++i) {
      struct descriptor* named = ((struct descriptor* const*)values)[i];
      if (named->what != DESCRIPTOR || !named->finished) wrong("attribute %u names a descriptor that is not finished or gone", attribute);
    }
  if (type == 0 && (*(struct handle* const*)values)->what != HANDLE) wrong("attribute %u names a handle that is gone", attribute);
  if (attribute == 1001) memcpy(it->places, values, (n < 3 ? n : 3) * 8), it->n_places = (int)n;
  if (attribute == 1003) it->workspace = *(const place*)values;
  return 0;
}
EXPORT int cudnnBackendFinalize(struct descriptor* it) {
  if (it->finished) wrong("a descriptor is finished twice");
  return it->finished = 1, 0;
}
EXPORT int cudnnBackendGetAttribute(struct descriptor* it, unsigned attribute, unsigned type, int64_t room, int64_t* n, void* values) {
  if (it->what != DESCRIPTOR || !it->finished) wrong("attribute %u of a descriptor that is not finished", attribute);
  switch (attribute) {
    case 202: case 300:  // the heuristic's configurations, a configuration's engine
      if (room && values) (*(struct descriptor**)values)->finished = 1;
      return *n = 1, 0;
    case 302: case 1303: return *n = 0, 0;  // knobs, remarks on the numerics
    case 402: if (values) *(int64_t*)values = PLAN_BYTES; return *n = 1, 0;
    case 405: if (values) memcpy(values, "{}", 3); return *n = 3, 0;
    case 1301: if (values) *(int64_t*)values = 42; return *n = 1, 0;
    default: return wrong("attribute %u of type %u is asked for", attribute, type), 1;
  }
}
EXPORT int cudnnBackendExecute(struct handle* handle, struct descriptor* plan, struct descriptor* pack) {
  in_context("cudnnBackendExecute");
  if (handle->what != HANDLE || !handle->stream) wrong("a convolution by a handle that is gone or without a stream");
  if (recorded && handle->stream != recorded) wrong("a convolution beside the recording");
  if (!plan->finished || !pack->finished || pack->n_places != 3) wrong("a plan or places that are not finished");
  for (int i = 0; i < 3; ++i) {
    inside("a convolution's place", pack->places[i], 16);
    if (pack->places[i] % 16) wrong("a place that is no multiple of 16");
  }
  return inside("a convolution's workspace", pack->workspace, PLAN_BYTES), 0;
}
EXPORT const char* cudnnGetErrorString(int status) { return status ? "refused on paper" : "fine"; }
EXPORT void cudnnGetLastErrorString(char* text, size_t room) { if (room) *text = 0; }
