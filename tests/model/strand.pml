/* Models src/sched/strand.h over src/queue/inbox.h: a strand's mailbox, where ASLEEP means idle.
 * Who replaces IDLE puts the strand on the ready queue; the worker that takes it moves the mailbox
 * behind the strand's own list, runs at most BUDGET events, and puts it back or makes it idle.
 * 2 pushers with 2 events each, 2 workers; the ready queue is a count, because it is one strand.
 * Proves: events never run on two workers at a time, each runs once and in its pusher's order, the
 * strand is never queued twice, never idle with events, never forgotten with events (monitor), and
 * all comes to rest: idle and empty.
 * BUG_STORE_IDLE goes idle by a plain store. BUG_BOTH goes idle, then queues it all the same.
 * BUG_FORGET looks only at the mailbox before it goes idle. BUG_QUEUE_EMPTY queues the strand for a
 * push on EMPTY too. BUG_RUN_AFTER_IDLE goes idle first and runs its last event after. */
#define P 2                     /* pushers */
#ifndef M
#define M 2                     /* events of a pusher: P*M of them, numbered from 1 */
#endif
#define N (P * M)
#define NW 2                    /* workers */
#ifndef BUDGET
#define BUDGET 1
#endif
#define EMPTY 0
#define IDLE 15

byte head = IDLE, next[N + 1], ready, running, ran, pushing;
byte last[P];                   /* events of a pusher run so far */
bit held;                       /* a worker has the strand */
chan own = [N] of { byte };     /* events taken from the mailbox, oldest first */

inline queue_strand() { assert(ready == 0); ready++ }

proctype pusher(byte me) { byte old, node = me * M + 1;
	do :: old = head;
		next[node] = (old == IDLE -> EMPTY : old);
		do :: atomic { head == old -> head = node; pushing++; break }
		:: atomic { head != old -> old = head; next[node] = (old == IDLE -> EMPTY : old) } od;
#ifdef BUG_QUEUE_EMPTY
		if :: atomic { old == IDLE || old == EMPTY -> queue_strand(); pushing-- }
#else
		if :: atomic { old == IDLE -> queue_strand(); pushing-- }
#endif
		:: else -> pushing-- fi;
		atomic { old = 0; node++; if :: node > me * M + M -> break :: else fi } od }

inline take_mailbox() {         /* the exchange, then the list oldest first behind own */
	d_step { node = head; head = EMPTY; assert(node != IDLE);
		do :: node != EMPTY -> list[i] = node; i++; node = next[node]; next[list[i - 1]] = EMPTY
		:: else -> break od;
		do :: i > 0 -> i--; own!list[i]; list[i] = 0 :: else -> break od } }

inline run_one() {
	atomic { own?node; running++; assert(running == 1);
		assert((node - 1) % M == last[(node - 1) / M]); last[(node - 1) / M]++ };
	atomic { running--; ran++; node = 0 } }

inline put_back() { atomic { held = 0; queue_strand() } }

active [NW] proctype worker() { byte node, i, left, list[N];
end:	do :: atomic { ready > 0 -> ready--; assert(!held); held = 1; left = BUDGET };
		take_mailbox();
		do :: atomic { left > 0 && nempty(own) -> left-- };
#ifdef BUG_RUN_AFTER_IDLE
			if :: atomic { len(own) == 1 && head == EMPTY -> head = IDLE; held = 0 }; run_one(); goto end
			:: len(own) > 1 || head != EMPTY fi;
#endif
			run_one()
		:: atomic { left == 0 || empty(own) -> left = 0; break } od;
#ifdef BUG_FORGET
		if :: head != EMPTY -> put_back()
#else
		if :: nempty(own) || head != EMPTY -> put_back()
		:: empty(own) ->
#endif
#ifdef BUG_STORE_IDLE
			head == EMPTY; atomic { head = IDLE; held = 0 }
#else
			if :: atomic { head == EMPTY -> head = IDLE; held = 0 }
#ifdef BUG_BOTH
				;
				put_back()
#endif
			:: head != EMPTY -> put_back() fi
#endif
		fi od }

active proctype monitor() {
end:	if :: atomic { head == IDLE && (nempty(own) || ready > 0) -> assert(false) }
	:: atomic { head != IDLE && ready == 0 && !held && pushing == 0 -> assert(false) }
	:: atomic { timeout -> assert(ran == N && head == IDLE && ready == 0 && !held) } fi }

init { byte i; atomic { for (i : 0 .. P - 1) { run pusher(i) } } }
