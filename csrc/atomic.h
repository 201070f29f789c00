/* An int that one thread writes and others watch: what the writer did before its store is seen by who loads the value.
 *
 * C11's atomics where the compiler has them, else Microsoft's intrinsics; not OpenMP's, whose version 2.0, the one that
 * Microsoft's compiler speaks, knows no atomic read or write. Release and acquire are all that a wave needs, and cost
 * plain moves on x86-64.
 */
#ifndef PF_ATOMIC_H
#define PF_ATOMIC_H

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
typedef volatile long pf_atomic_int;
static inline int pf_load(pf_atomic_int *from) { return (int)_InterlockedOr(from, 0); }
static inline void pf_store(pf_atomic_int *to, int value) { _InterlockedExchange(to, (long)value); }
#else
#include <stdatomic.h>
typedef atomic_int pf_atomic_int;
static inline int pf_load(pf_atomic_int *from) { return atomic_load_explicit(from, memory_order_acquire); }
static inline void pf_store(pf_atomic_int *to, int value) { atomic_store_explicit(to, value, memory_order_release); }
#endif

#endif
