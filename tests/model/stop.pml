/* Models the stop of a loop, src/loop/loop.c: RUNNING, STOPPING, STOPPED. A user thread and the
 * callbacks on 2 workers schedule callbacks and write to a stream meanwhile; a lane with 2 handles and
 * the scheduler with 1 timer push into the ready queue. The parker is "queue or closed" (park.pml).
 * Order: STOPPING; no call inside; lane and scheduler end what lives and say so; close the parker;
 * workers drain and exit; the scheduler, then the lane is joined.
 * A call from outside counts itself before it reads the state, and until it has rung the bell. A
 * write counts itself in its handle unless that closes; `closed` is posted when the count is 0.
 * Proves: every accepted callback, write and timer is run once, every handle's `closed` once and as
 * its last event; nothing enters the ready queue once the parker is closed; the lane exits last and
 * leaves no message; nobody touches its bell after that.
 * BUG_CLOSE_EARLY closes the parker before the lane reports no handle. BUG_NO_WAIT does not wait for
 * calls inside. BUG_CHECK_FIRST reads the state, then counts the call. BUG_RING_LATE stops counting
 * before the bell. BUG_WRITE_UNCOUNTED pushes a write without asking the handle. BUG_TIMER_LATE
 * stops the scheduler after the workers. BUG_LANE_FIRST joins the lane before the workers. */
#define NW 2
#define NH 2                    /* handles */
#define NC 4                    /* callbacks that may be accepted */
mtype = { soon, wrote, timer, closed_event, write, give_back, close_all, quit };
chan ready = [10] of { mtype, byte };
chan inbox = [6] of { mtype, byte };
bit stopping, parker_closed, lane_gone, lane_empty, timers_stop, timers_empty, closing[NH];
byte calls, accepted, ran, gone, writes, written, given = 2, ops[NH], closed[NH], fired;

inline post(event, id) { atomic { assert(!parker_closed && gone < NW); ready!event,id } }
inline bell() { assert(!lane_gone) }

inline enter() {                /* in := the call may go on */
#ifdef BUG_CHECK_FIRST
	in = !stopping; calls++;
#else
	calls++; in = !stopping;
#endif
}

inline call_soon() {
	enter();
	if :: atomic { in && accepted < NC -> accepted++ }; post(soon, 0) :: !in || accepted == NC fi;
	calls--; in = 0 }

inline begin_write(h) {         /* in := the handle takes it */
	atomic {
#ifdef BUG_WRITE_UNCOUNTED
		in = 1;
#else
		in = !closing[h]; ops[h] = ops[h] + in;
#endif
		writes = writes + in } }

proctype user() { bit in;
	if :: call_soon() :: skip fi;
	enter();
	if :: in -> begin_write(0);
		if :: in -> inbox!write,0 :: else fi;
#ifdef BUG_RING_LATE
		calls--; bell(); calls++;
#else
		bell();
#endif
	:: else fi;
	calls--; in = 0 }

proctype worker() { mtype event; byte h; bit in, last;
	do :: atomic { ready?event,h;
			if :: event == soon -> ran++ :: event == wrote -> assert(!closed[h]); written++
			:: event == timer -> fired++ :: event == closed_event -> closed[h]++ fi };
		if :: atomic { event == soon || event == timer };       /* what a callback may do */
			if :: call_soon()
			:: begin_write(1); if :: in -> inbox!write,1; bell() :: else fi; in = 0
			:: atomic { given > 0 -> given--; inbox!give_back,0 }; bell()
			:: skip fi
		:: atomic { event != soon && event != timer } fi;
		atomic { event = 0; h = 0 }
	:: atomic { last && empty(ready) -> break }
	:: atomic { !last && parker_closed && empty(ready) -> last = 1 } od;
	gone++ }

inline finish(h) {              /* a handle's last event, when no operation holds it */
	if :: atomic { closing[h] && ops[h] == 0 && live[h] -> live[h] = 0 }; post(closed_event, h)
	:: !closing[h] || ops[h] > 0 || !live[h] fi;
	if :: !live[0] && !live[1] -> lane_empty = 1 :: live[0] || live[1] fi }

active proctype lane() { byte h; bit live[NH];
	atomic { live[0] = 1; live[1] = 1 };
	do :: inbox?write,h -> post(wrote, h);
#ifndef BUG_WRITE_UNCOUNTED
		ops[h]--;
#endif
		finish(h)
	:: inbox?give_back,_
	:: inbox?close_all,_ -> h = 0; closing[0] = 1; finish(h); h = 1; closing[1] = 1; finish(h)
	:: inbox?quit,_ -> break od;
	assert(empty(inbox)); lane_gone = 1 }

active proctype scheduler() { bit armed = 1;
	if :: post(timer, 0); armed = 0 :: timers_stop fi;      /* due, or ended as cancelled */
	timers_stop;
	if :: armed -> post(timer, 0) :: !armed fi;
	timers_empty = 1 }

active proctype stopper() { byte i;
	stopping = 1;
#ifndef BUG_NO_WAIT
	calls == 0;
#endif
	inbox!close_all,0;
#ifndef BUG_TIMER_LATE
	timers_stop = 1; timers_empty;
#endif
#ifndef BUG_CLOSE_EARLY
	lane_empty;
#endif
	parker_closed = 1;
#ifdef BUG_LANE_FIRST
	inbox!quit,0; lane_gone;
#endif
	gone == NW;
	timers_stop = 1; timers_empty;
#ifndef BUG_LANE_FIRST
	inbox!quit,0; lane_gone;
#endif
	assert(ran == accepted && written == writes && fired == 1 && empty(ready) && empty(inbox));
	for (i : 0 .. NH - 1) { assert(closed[i] == 1 && ops[i] == 0) } }

init { atomic { run user(); run worker(); run worker() } }
