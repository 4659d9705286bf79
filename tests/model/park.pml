/* Models src/queue/parker.h: one word {closed, tokens, idle}, changed by single atomic steps. A
 * compare-and-swap loop is one step here, because a failed turn changes nothing.
 * Proves: every item runs once; at the end all workers are gone and idle == tokens == 0; idle +
 * tokens is the number of announced workers at every step; and no item waits beside a sleeping
 * worker while all others compute (so no wake-up is lost). Runs that stop halfway are end states
 * Spin rejects. Producer 0 pushes a batch of 2 with one wake, then 1; producer 1 pushes 2, by one.
 * SURPLUS: the last worker is woken after the regular ones and its sleep may time out.
 * TOKEN_FIRST: who finds work while announced takes a token before its own announcement. Safe only
 *   if items may wait beside a sleeper (LAZY); without LAZY it must fail.
 * BUG_RECHECK_FIRST looks again before it announces. BUG_LEAVE_IDLE leaves by idle-- always.
 * BUG_IDLE_FIRST keeps tokens even when woken by one. BUG_READ_FIRST reads idle before the push.
 * BUG_CLOSE_SILENT closes, wakes nobody. BUG_NO_COMPARE sleeps though the word has changed.
 * BUG_EXIT_EARLY exits on closed without a last look. BUG_TIMEOUT retires in spite of a token. */
#ifndef NW
#define NW 2                    /* workers */
#endif
#ifndef BATCHES
#define BATCHES 2               /* pushes of a producer */
#endif
#define N (2 * BATCHES + 1)     /* items */
#define IDLE(w)   ((w) & 7)
#define TOKENS(w) (((w) >> 3) & 7)
#define CLOSED(w) ((w) >> 6)
#define TOKEN 8

byte word, pushed, taken, ran, announced, asleep, busy, gone, announcing, done;
bit sleeping[NW];

#define CHECK assert(IDLE(word) + TOKENS(word) == announced && announced <= NW)
#define LEAVE_TOKEN_FIRST { \
	if :: TOKENS(word) > 0 -> word = word - TOKEN :: else -> assert(IDLE(word) > 0); word-- fi; \
	announced--; CHECK }
#define LEAVE_IDLE_FIRST { \
	if :: IDLE(word) > 0 -> word-- :: else -> assert(TOKENS(word) > 0); word = word - TOKEN fi; \
	announced--; CHECK }
#if defined(BUG_LEAVE_IDLE)
#define LEAVE_WITH_WORK { assert(IDLE(word) > 0); word--; announced--; CHECK }
#elif defined(TOKEN_FIRST)
#define LEAVE_WITH_WORK LEAVE_TOKEN_FIRST
#else
#define LEAVE_WITH_WORK LEAVE_IDLE_FIRST
#endif
#if defined(BUG_IDLE_FIRST)
#define LEAVE_WOKEN LEAVE_IDLE_FIRST
#else
#define LEAVE_WOKEN LEAVE_TOKEN_FIRST
#endif
#define WAKE(i) (sleeping[i]) -> sleeping[i] = 0; asleep--; count--

inline wake(granted) {         /* each futex call holds the kernel's lock: one step */
	atomic { count = granted;
		do :: count > 0 -> if :: WAKE(0)
#if NW > 2
			:: WAKE(1)
#endif
#ifndef SURPLUS
			:: WAKE(NW - 1)
#endif
			:: else -> break fi
		:: else -> break od };
#ifdef SURPLUS
	atomic { if :: count > 0 && sleeping[NW - 1] -> sleeping[NW - 1] = 0; asleep-- :: else fi;
		count = 0 };
#endif
	count = 0 }

proctype producer(bit me) { byte left = BATCHES, items = 2 - me, count, granted;
	do ::
#ifdef BUG_READ_FIRST
		granted = (IDLE(word) < items -> IDLE(word) : items);
		atomic { pushed = pushed + items; announcing++ };
		atomic { if :: IDLE(word) < granted -> granted = IDLE(word) :: else fi;
#else
		atomic { pushed = pushed + items; announcing++ };
		atomic { granted = (IDLE(word) < items -> IDLE(word) : items);
#endif
			word = word - granted + granted * TOKEN; CHECK };
		wake(granted);
		atomic { announcing--; left--; items = 1; granted = 0; if :: left == 0 -> done++; break :: else fi } od }

proctype worker(byte me) { byte seen; bit last;
look:	atomic { if :: taken < pushed -> taken++; busy++; goto compute :: else fi }
	if :: last -> goto exit :: else fi;
#ifdef BUG_RECHECK_FIRST
	if :: atomic { taken < pushed -> taken++; busy++; goto compute } :: atomic { taken == pushed } fi;
#endif
	atomic { seen = word; word++; announced++; CHECK }
#ifndef BUG_RECHECK_FIRST
	if :: atomic { taken < pushed -> taken++; busy++ }; atomic { LEAVE_WITH_WORK }; goto compute
	:: atomic { taken == pushed } fi;
#endif
	do :: seen = word;
		if :: TOKENS(seen) > 0 || CLOSED(seen) -> atomic { LEAVE_WOKEN };
			last = CLOSED(seen); seen = 0;
#ifdef BUG_EXIT_EARLY
			if :: last -> goto exit :: else fi;
#endif
			goto look
		:: else fi;
		atomic {
#ifndef BUG_NO_COMPARE
			if :: seen != word -> goto again :: else fi;
#endif
			sleeping[me] = 1; asleep++ };
		if :: !sleeping[me]
#ifdef SURPLUS
		:: atomic { me == NW - 1 && sleeping[me] -> sleeping[me] = 0; asleep-- };
#ifdef BUG_TIMEOUT
			atomic { if :: IDLE(word) > 0 -> word-- :: else fi; announced--; CHECK; goto exit };
#endif
			atomic { if :: TOKENS(word) > 0 -> LEAVE_WOKEN; goto look
				:: else -> LEAVE_WOKEN; goto exit fi }
#endif
		fi;
again:		skip
	od;
compute: atomic { busy--; ran++; seen = 0; goto look };
exit:	gone++ }

proctype closer() { byte count;
	if :: skip; done == 2 :: skip; ran == N fi;     /* amid the work, or after all of it */
	atomic { word = word + 64; announcing++ };
#ifndef BUG_CLOSE_SILENT
	wake(NW);
#endif
	atomic { announcing--; gone == NW -> assert(word == 64 && ran == N && taken == N) } }

#ifndef LAZY
active proctype monitor() {
end:	(taken < pushed && announcing == 0 && asleep > 0 && asleep + busy + gone == NW) -> assert(false) }
#endif

init { byte i;
	atomic { for (i : 0 .. NW - 1) { run worker(i) }
		run producer(0); run producer(1); run closer() } }
