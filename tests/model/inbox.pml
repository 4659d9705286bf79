/* Models src/queue/inbox.h as a lane uses it, with its doorbell, src/base/bell.h. Head: EMPTY,
 * ASLEEP or the newest node of a list. 3 pushers with 2 nodes each; 1 consumer that may wake once
 * for another reason, a completion. Who replaces ASLEEP rings the bell. DEBT: or owes it and pays
 * at the end of its batch, unless another pusher or the watcher paid first.
 * Proves: each node is delivered once and in its pusher's order; one pusher, no more, answers a
 * sleep; the consumer never sleeps on a list while no ring is pending (monitor; a halt is an
 * invalid end state). A push reads and swaps in two steps.
 * BUG_STORE_ASLEEP goes to sleep by a plain store. BUG_REREAD decides to ring by the head as it is
 * after the push. BUG_NO_REVERSE delivers newest first. BUG_STALE_NEXT does not link again when its
 * swap is retried. BUG_MARK_IN_LIST links to ASLEEP as if it were a node.
 * BUG_PAY_LATE rings first and clears the debt after. */
#ifndef P
#define P 3                     /* pushers */
#endif
#define M 2                     /* nodes of a pusher: P*M of them, numbered from 1 */
#define N (P * M)
#define EMPTY 0
#define ASLEEP 15

byte head, next[N + 1], bell, delivered, pending;
byte last[P];                   /* nodes of a pusher delivered so far */
bit asleep, rung, owed;         /* rung: this sleep has found its one ringer */

#ifdef BUG_MARK_IN_LIST
#define LINK old
#else
#define LINK (old == ASLEEP -> EMPTY : old)
#endif
inline ring() { bell++; pending-- }
#ifdef BUG_PAY_LATE
#define PAY if :: owed -> bell++; atomic { owed = 0; pending = 0 } :: else fi
#else
#define PAY if :: atomic { owed -> owed = 0 }; atomic { ring() } :: atomic { !owed } fi
#endif

proctype pusher(byte me) { byte old, node = me * M + 1;
	do :: old = head;
		next[node] = LINK;
		do :: atomic { head == old -> head = node;
				if :: old == ASLEEP -> assert(!rung); rung = 1; pending++ :: else fi; break }
		:: atomic { head != old -> old = head;
#ifndef BUG_STALE_NEXT
				next[node] = LINK
#endif
				} od;
#ifdef BUG_REREAD
		old = head;
#endif
		if :: old == ASLEEP -> if :: atomic { ring() }
#ifdef DEBT
			:: atomic { pending = pending - owed; owed = 1 }
#endif
			fi
		:: else fi;
		atomic { old = 0; node++; if :: node > me * M + M -> break :: else fi } od;
#ifdef DEBT
	PAY
#endif
}

#ifdef DEBT
active proctype watcher() { PAY }
#endif

inline take() { d_step { node = head; head = EMPTY; assert(node != ASLEEP); count = 0;
		do :: node != EMPTY -> assert(node != ASLEEP); list[count] = node; count++; i = node;
			node = next[node]; next[i] = EMPTY :: else -> break od; i = 0 };
	d_step { for (i : 1 .. count) {
#ifdef BUG_NO_REVERSE
			node = list[i - 1];
#else
			node = list[count - i];
#endif
			assert((node - 1) % M == last[(node - 1) / M]);     /* in order, none twice */
			last[(node - 1) / M]++; delivered++ };
		for (i : 0 .. N - 1) { list[i] = 0 } i = 0; node = 0; count = 0 } }

active proctype consumer() { byte node, i, count, others = 1, list[N];
	do :: take();
		if :: delivered == N -> break :: else fi;
#ifdef BUG_STORE_ASLEEP
		if :: atomic { head == EMPTY }; atomic { head = ASLEEP; asleep = 1; rung = 0 };
#else
		if :: atomic { head == EMPTY -> head = ASLEEP; asleep = 1; rung = 0 };
#endif
			if :: atomic { bell > 0 -> bell = 0; asleep = 0 }
			:: atomic { others > 0 -> others--; asleep = 0 } fi;
			atomic { if :: head == ASLEEP -> head = EMPTY :: else fi }
		:: head != EMPTY fi od }

active proctype monitor() {
end:	(asleep && head != ASLEEP && bell == 0 && pending == 0) -> assert(false) }

init { byte i; atomic { for (i : 0 .. P - 1) { run pusher(i) } } }
