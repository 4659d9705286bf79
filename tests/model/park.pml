/* Models src/queue/parker.h, with how src/sched/worker.c looks, takes and parks. One word {closed,
 * searching, tokens, idle}, changed by single atomic steps; a compare-and-swap loop is one step
 * here, because a failed turn changes nothing. Producer 0 pushes a batch of 2, then 1; 1 pushes 2.
 * Proves: every item runs once; at the end all workers are gone and only `closed` is set; at every
 * step idle + tokens is the number of announced workers; and no item waits beside a sleeping worker
 * while all others compute (monitor), so no wake-up is lost. A halt is an invalid end state.
 * SURPLUS: the last worker is woken after the regular ones, and its sleep may time out.
 * KEEP_SEARCH: who found work while searching goes on to count as searching while it runs it. Then
 * work may wait beside a sleeper until the watch of the pool ticks; LAZY allows that, as long as
 * someone is awake. STRANDS: it ceases to count before it runs, but after it looked for more work
 * to wake others for: its own mark stifles that wake. END_FIRST: it ceases before it looks.
 * BUG_RECHECK_FIRST looks again before it announces. BUG_LEAVE_IDLE leaves by idle-- always.
 * BUG_READ_FIRST reads the word before the push. BUG_CLOSE_SILENT closes, wakes nobody.
 * BUG_NO_COMPARE sleeps though the word has changed. BUG_EXIT_EARLY exits on closed without a last
 * look. BUG_TIMEOUT retires in spite of a token. BUG_NO_BATON: who takes work and sees more does
 * not wake the next. BUG_SEARCH_LATE announces, looks again, and only then ceases to be
 * the one who searches. */
#ifndef NW
#define NW 2                    /* workers */
#endif
#ifndef BATCHES
#define BATCHES 2               /* pushes of a producer */
#endif
#define N (2 * BATCHES + 1)     /* items */
#ifdef SURPLUS
#define REGULARS (NW - 1)
#else
#define REGULARS NW
#endif
#define IDLE      (word & 7)
#define TOKENS    ((word >> 3) & 7)
#define TOKEN     8
#define SEARCHING 64
#define CLOSED    128
#define COMING    (TOKENS + ((word & SEARCHING) >> 6))
#define CHECK     assert(IDLE + TOKENS == announced && announced <= NW)

byte word, pushed, taken, ran, announced, asleep, busy, gone, announcing, done;
bit sleeping[NW];

#ifdef BUG_LEAVE_IDLE
#define LEAVE word--; announced--; CHECK
#else
#define LEAVE if :: TOKENS > 0 -> word = word - TOKEN :: else -> word-- fi; announced--; CHECK
#endif
#define UP(i) sleeping[(i) % NW] -> sleeping[(i) % NW] = 0; asleep--; n--
inline futex_wake() {           /* each call holds the kernel's lock: one step */
	atomic { do :: n > 0 -> if :: UP(0) :: (1 < REGULARS) && UP(1) :: (2 < REGULARS) && UP(2)
			:: else -> break fi
		:: else -> break od };
	atomic { if :: n > 0 && UP(NW - 1) :: else fi; n = 0 } }

#define GRANT(count) (COMING >= (count) -> 0 : \
	((count) - COMING < IDLE -> (count) - COMING : IDLE))
inline wake(count) {
	atomic { n = GRANT(count); word = word - n + n * TOKEN; CHECK };
	futex_wake() }

proctype producer(bit me) { byte left = BATCHES, items = 2 - me, n;
	do ::
#ifdef BUG_READ_FIRST
		n = GRANT(items);
		atomic { pushed = pushed + items; announcing++ };
		atomic { if :: IDLE < n -> n = IDLE :: else fi; word = word - n + n * TOKEN; CHECK };
		futex_wake();
#else
		atomic { pushed = pushed + items; announcing++ };
		wake(items);
#endif
		atomic { announcing--; left--; items = 1;
			if :: left == 0 -> done++; break :: else fi } od }

#define NONE        (taken == pushed)
#define STOP_SEARCH word = word - searching * SEARCHING; searching = 0
proctype worker(byte me) { byte seen, n; bit last, searching;
look:	if :: atomic { !NONE -> taken++ };
#ifdef END_FIRST
		atomic { STOP_SEARCH };
#endif
#ifndef BUG_NO_BATON
		if :: IDLE > 0 -> if :: !NONE -> wake(1) :: NONE fi :: IDLE == 0 fi;
#endif
#ifdef STRANDS
		atomic { STOP_SEARCH };
#endif
		busy++;
		atomic { busy--; ran++; goto look }
	:: atomic { NONE && last -> STOP_SEARCH; gone++; goto out }
	:: atomic { NONE && !last } fi;
	if :: atomic { !(word & SEARCHING) || searching -> word = word | SEARCHING; searching = 1 };
#ifdef KEEP_SEARCH
		if :: !NONE -> goto look :: NONE fi
#else
		if :: atomic { !NONE -> STOP_SEARCH; goto look } :: NONE fi
#endif
	:: skip fi;
#ifdef BUG_RECHECK_FIRST
	if :: !NONE -> atomic { STOP_SEARCH; goto look } :: NONE fi;
#endif
#ifdef BUG_SEARCH_LATE
	atomic { word++; announced++; CHECK };
	if :: !NONE -> atomic { LEAVE; STOP_SEARCH; goto look } :: NONE fi;
	atomic { STOP_SEARCH };
#else
	atomic { STOP_SEARCH; word++; announced++; CHECK };
#ifndef BUG_RECHECK_FIRST
	if :: !NONE -> atomic { LEAVE; goto look } :: NONE fi;
#endif
#endif
	do :: seen = word;
		if :: (seen & ~(7 | SEARCHING)) -> atomic { LEAVE; last = seen >> 7; seen = 0 };
#ifdef BUG_EXIT_EARLY
			if :: atomic { last -> gone++; goto out } :: !last fi;
#endif
			goto look
		:: else fi;
		atomic {
#ifndef BUG_NO_COMPARE
			if :: seen != word -> goto again :: else fi;
#endif
			sleeping[me] = 1; asleep++ };
		if :: !sleeping[me]
		:: atomic { me >= REGULARS && sleeping[me] -> sleeping[me] = 0; asleep-- };
#ifdef BUG_TIMEOUT
			atomic { if :: IDLE > 0 -> word-- :: else fi; announced--; CHECK; gone++; goto out };
#endif
			atomic { if :: TOKENS > 0 -> LEAVE; seen = 0; goto look
				:: else -> LEAVE; gone++; goto out fi } fi;
again:		skip
	od;
out:	skip }

proctype closer() { byte n = NW;
	if :: skip; done == 2 :: skip; ran == N fi;     /* amid the work, or after all of it */
	atomic { word = word | CLOSED; announcing++ };
#ifndef BUG_CLOSE_SILENT
	futex_wake();
#endif
	atomic { announcing--; gone == NW -> assert(word == CLOSED && ran == N && taken == N) } }

#ifdef LAZY
#define RESTS (busy == 0)
#else
#define RESTS true
#endif
active proctype monitor() {
end:	atomic { !NONE && announcing == 0 && asleep > 0 && asleep + busy + gone == NW && RESTS ->
		assert(false) } }

init { byte i; atomic { for (i : 0 .. NW - 1) { run worker(i) };
	run producer(0); run producer(1); run closer() } }
