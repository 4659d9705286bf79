/* The only place that spells C11 atomics. The queues, the parker, the strand and the callback
 * state are header-only over these names, so a checker can swap this file and run the real code.
 *
 * Any thread. Each use of a non-relaxed name says at its call site which use it pairs with.
 */
#ifndef RONDO_BASE_ATOMICS_H
#define RONDO_BASE_ATOMICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define load_relaxed(p) atomic_load_explicit((p), memory_order_relaxed)
#define load_acquire(p) atomic_load_explicit((p), memory_order_acquire)
#define load_seq_cst(p) atomic_load_explicit((p), memory_order_seq_cst)

#define store_relaxed(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
#define store_release(p, v) atomic_store_explicit((p), (v), memory_order_release)

#define exchange_acq_rel(p, v) atomic_exchange_explicit((p), (v), memory_order_acq_rel)
#define exchange_seq_cst(p, v) atomic_exchange_explicit((p), (v), memory_order_seq_cst)

#define add_relaxed(p, v) atomic_fetch_add_explicit((p), (v), memory_order_relaxed)
#define sub_relaxed(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_relaxed)
#define add_acq_rel(p, v) atomic_fetch_add_explicit((p), (v), memory_order_acq_rel)
#define add_seq_cst(p, v) atomic_fetch_add_explicit((p), (v), memory_order_seq_cst)
#define sub_acq_rel(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_acq_rel)
#define or_acq_rel(p, v) atomic_fetch_or_explicit((p), (v), memory_order_acq_rel)
#define or_seq_cst(p, v) atomic_fetch_or_explicit((p), (v), memory_order_seq_cst)
#define and_acq_rel(p, v) atomic_fetch_and_explicit((p), (v), memory_order_acq_rel)
#define and_seq_cst(p, v) atomic_fetch_and_explicit((p), (v), memory_order_seq_cst)

/* The weak forms may fail spuriously: only for retry loops. A failed exchange reads relaxed. */
#define cas_weak_acq_rel(p, expected, v)                                              \
    atomic_compare_exchange_weak_explicit((p), (expected), (v), memory_order_acq_rel, \
                                          memory_order_relaxed)
#define cas_acq_rel(p, expected, v)                                                     \
    atomic_compare_exchange_strong_explicit((p), (expected), (v), memory_order_acq_rel, \
                                            memory_order_acquire)
#define cas_weak_seq_cst(p, expected, v)                                              \
    atomic_compare_exchange_weak_explicit((p), (expected), (v), memory_order_seq_cst, \
                                          memory_order_seq_cst)

#define fence_seq_cst() atomic_thread_fence(memory_order_seq_cst)

/* A counter with one writer: a plain add that other threads may read at any time. */
#define count_add(p, v) store_relaxed((p), load_relaxed(p) + (v))

enum { CACHE_LINE_SIZE = 64 };
#define CACHE_ALIGNED __attribute__((aligned(CACHE_LINE_SIZE)))

/* One turn of a short spin: tells the processor, and a sibling thread, that we wait. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield" ::: "memory");
#endif
}

#endif
