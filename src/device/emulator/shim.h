// Host emulation of a CUDA grid, one block at a time (C++20, no CUDA headers).
// Threads of a block are fibers of one system thread. The order in which they run between barriers, and the order of the
// blocks, is chosen from outside: a missing barrier or a dependence between blocks changes the result.
// Shared memory is filled with NaN before every block. A barrier that not all live threads reach aborts.
// -DSHIM_THREADS takes one system thread a CUDA thread instead, for ThreadSanitizer.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <vector>
#ifdef SHIM_THREADS
#include <barrier>
#include <thread>
#else
#include <ucontext.h>
#endif
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __constant__ static
#define __noinline__
#define __restrict__ __restrict
// every __shared__ object lands in one section, so it can be poisoned before each block
#define __shared__ static __attribute__((section("cushared")))
extern "C" char __start_cushared[] __attribute__((weak)), __stop_cushared[] __attribute__((weak));
struct dim3 { unsigned x = 1, y = 1, z = 1; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) double2 { double x, y; };

namespace shim {
struct Warp { uint64_t slot[32]; };
inline thread_local dim3 tid; inline dim3 bid, bdim, gdim;
inline std::vector<Warp> warps; inline std::vector<char> dyn;
inline char* dynamic() { return reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(dyn.data()) + 15) & ~uintptr_t(15)); }
inline int order_seed = 0;  // of threads: 0 forward, 1 reverse, >1 shuffled
inline int block_seed = 0;  // of blocks, likewise
inline unsigned flat() { return tid.x + bdim.x * (tid.y + bdim.y * tid.z); }
inline unsigned nthr() { return bdim.x * bdim.y * bdim.z; }
#ifdef SHIM_THREADS
inline std::unique_ptr<std::barrier<>> block_bar; inline std::vector<std::unique_ptr<std::barrier<>>> warp_bar;
inline void sync_block() { block_bar->arrive_and_wait(); }
inline void sync_warp() { warp_bar[flat() / 32]->arrive_and_wait(); }
inline void run_block(const std::function<void()>& body) {
  unsigned n = nthr(); block_bar = std::make_unique<std::barrier<>>(n); warp_bar.clear();
  for (unsigned w = 0; w * 32 < n; ++w) warp_bar.push_back(std::make_unique<std::barrier<>>(std::min(32u, n - w * 32)));
  std::vector<std::thread> ts;
  for (unsigned i = 0; i < n; ++i) ts.emplace_back([&, i] {
    tid = {i % bdim.x, i / bdim.x % bdim.y, i / (bdim.x * bdim.y)}; body();
    block_bar->arrive_and_drop(); warp_bar[i / 32]->arrive_and_drop(); });   // a finished thread leaves the barriers
  for (auto& t : ts) t.join();
}
#else
struct Fiber { ucontext_t ctx; std::unique_ptr<char[]> stack; int wait = 0; bool done = false; };  // wait: 0 run, 1 block, 2 warp
inline std::vector<Fiber> fibers; inline ucontext_t sched; inline unsigned cur; inline const std::function<void()>* body_;
inline void entry() { (*body_)(); fibers[cur].done = true; swapcontext(&fibers[cur].ctx, &sched); }
inline void yield(int why) { unsigned me = cur; fibers[me].wait = why; swapcontext(&fibers[me].ctx, &sched); }
inline void sync_block() { yield(1); }
inline void sync_warp() { yield(2); }
inline void run_block(const std::function<void()>& body) {
  unsigned n = nthr(); body_ = &body; fibers.resize(n);
  std::vector<unsigned> ord(n); std::iota(ord.begin(), ord.end(), 0u);
  std::mt19937 rng(order_seed + bid.x * 7919);
  for (unsigned i = 0; i < n; ++i) {
    Fiber& f = fibers[i]; f.done = false; f.wait = 0; if (!f.stack) f.stack.reset(new char[1 << 16]);
    getcontext(&f.ctx); f.ctx.uc_stack = {f.stack.get(), 0, 1 << 16}; f.ctx.uc_link = nullptr; makecontext(&f.ctx, entry, 0);
  }
  for (;;) {
    if (order_seed == 1) std::sort(ord.rbegin(), ord.rend()); else if (order_seed > 1) std::shuffle(ord.begin(), ord.end(), rng);
    bool ran = false;
    for (unsigned i : ord) if (!fibers[i].done && fibers[i].wait == 0) {
      cur = i; tid = {i % bdim.x, i / bdim.x % bdim.y, i / (bdim.x * bdim.y)}; ran = true; swapcontext(&sched, &fibers[i].ctx); }
    bool all_done = true, all_block = true;
    for (unsigned w = 0; w < n; w += 32) {                                // release a warp when every live lane is there
      bool all = true; unsigned e = std::min(n, w + 32);
      for (unsigned i = w; i < e; ++i) { all &= fibers[i].done || fibers[i].wait == 2; all_done &= fibers[i].done; all_block &= fibers[i].done || fibers[i].wait == 1; }
      if (all) for (unsigned i = w; i < e; ++i) if (!fibers[i].done) { fibers[i].wait = 0; ran = true; }
    }
    if (all_done) break;
    if (all_block) { for (auto& f : fibers) f.wait = 0; ran = true; }
    if (!ran) { std::fprintf(stderr, "shim: divergent barrier in block %u\n", bid.x); std::abort(); }
  }
}
#endif
inline void launch(dim3 g, dim3 b, size_t smem, const std::function<void()>& body) {
  gdim = g; bdim = b; dyn.assign(smem + 16, char(0xff)); warps.assign((nthr() + 31) / 32, Warp{});
  std::vector<unsigned> blocks(size_t(g.x) * g.y * g.z);
  std::iota(blocks.begin(), blocks.end(), 0u);
  if (block_seed == 1) std::reverse(blocks.begin(), blocks.end());
  if (block_seed > 1) { std::mt19937 rng(block_seed); std::shuffle(blocks.begin(), blocks.end(), rng); }
  for (unsigned block : blocks) {
    bid = {block % g.x, block / g.x % g.y, block / g.x / g.y};
    if (__start_cushared) std::memset(__start_cushared, 0xff, __stop_cushared - __start_cushared);   // NaN poison
    std::fill(dyn.begin(), dyn.end(), char(0xff)); run_block(body);
  }
}
// the calling convention of cuLaunchKernel: an array of pointers to the arguments
template <class... A> void launch_packed(void (*k)(A...), dim3 g, dim3 b, size_t s, void** a) {
  [&]<size_t... I>(std::index_sequence<I...>) { launch(g, b, s, [=] { k(*static_cast<std::remove_cvref_t<A>*>(a[I])...); }); }(std::index_sequence_for<A...>{}); }
template <class T> T shfl(T v, unsigned src) {
  Warp& w = warps[flat() / 32]; uint64_t t = 0; std::memcpy(&t, &v, sizeof v); w.slot[flat() % 32] = t; sync_warp();
  std::memcpy(&v, &w.slot[src % 32], sizeof v); sync_warp(); return v; }
}  // namespace shim
#define threadIdx shim::tid
#define blockIdx shim::bid
#define blockDim shim::bdim
#define gridDim shim::gdim
inline void __syncthreads() { shim::sync_block(); }
inline void __syncwarp(unsigned = ~0u) { shim::sync_warp(); }
template <class T> T __shfl_xor_sync(unsigned, T v, int m) { return shim::shfl(v, (shim::flat() % 32) ^ m); }
template <class T> T __shfl_sync(unsigned, T v, int l) { return shim::shfl(v, l); }
template <class T> T __shfl_down_sync(unsigned, T v, int d) { unsigned l = shim::flat() % 32; return shim::shfl(v, l + d < 32 ? l + d : l); }
inline unsigned __float_as_uint(float f) { unsigned u; std::memcpy(&u, &f, 4); return u; }
inline float __uint_as_float(unsigned u) { float f; std::memcpy(&f, &u, 4); return f; }
inline unsigned __umulhi(unsigned a, unsigned b) { return uint64_t(a) * b >> 32; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline int __float_as_int(float f) { int u; std::memcpy(&u, &f, 4); return u; }
inline float __int_as_float(int u) { float f; std::memcpy(&f, &u, 4); return f; }
template <class T> T __shfl_up_sync(unsigned, T v, int d) { unsigned l = shim::flat() % 32; return shim::shfl(v, int(l) - d >= 0 ? l - d : l); }
inline unsigned __ballot_sync(unsigned, int predicate) { unsigned mask = 0; for (int l = 0; l < 32; ++l) mask |= unsigned(shim::shfl(predicate ? 1 : 0, l)) << l; return mask; }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __clz(int v) { return v ? __builtin_clz(v) : 32; }
// Whole numbers only: their sum does not depend on the order.
inline int atomicAdd(int* p, int v) { int old = *p; *p = old + v; return old; }
inline unsigned atomicAdd(unsigned* p, unsigned v) { unsigned old = *p; *p = old + v; return old; }
template <class T> T __ldg(const T* p) { return *p; }
#define SHARED_ARRAY(T, name) T* name = reinterpret_cast<T*>(shim::dynamic())
// one exported launcher per kernel, callable from Rust with the same argument array as on the GPU
#define KERNEL_EXPORT(k) extern "C" __attribute__((visibility("default"))) void shim_##k(const unsigned* g, const unsigned* b, unsigned s, void** a) { \
  shim::launch_packed(k, {g[0], g[1], g[2]}, {b[0], b[1], b[2]}, s, a); }
extern "C" __attribute__((visibility("default"))) void shim_order(int threads, int blocks) { shim::order_seed = threads; shim::block_seed = blocks; }
