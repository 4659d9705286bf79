/* Models the end of a loop: src/loop/loop.c and gate.h, the count of lives (src/ring/life.h), the
 * count of writers of src/io/stream*.c, src/ring/lane.c. A user thread and the callbacks on 2
 * workers schedule callbacks and write meanwhile; a lane with 2 handles and the scheduler with 1
 * timer push into the ready queue. The parker is just "queue or closed", see park.pml.
 * Order: the lane closes its handles; it drops the last life; the gate is closed and empty; join
 * the scheduler; close the parker; workers drain and exit; join them, then the lane; free.
 * A call counts itself at the gate (rondo_call_soon from outside asks the closed flag of the ready
 * queue under its lock, which is the same with no time between the question and the push), a worker
 * of this loop only asks it. A write counts itself in its handle unless that is closed, until it is
 * pushed; the handle ends when the count is 0.
 * Proves: every accepted callback runs once; every accepted write has its `written` event and every
 * handle its `closed`, once, closed last, run by a worker; a timer fires or is dropped; once the
 * parker is closed only workers push; the lane exits last and leaves no message.
 * BUG_CLOSE_EARLY closes the parker before the last life is dropped. BUG_LIFE_EARLY drops it
 * before `closed` is posted. BUG_NO_WAIT closes the gate but does not wait. BUG_CHECK_FIRST asks
 * the gate, then counts itself. BUG_WRITE_UNCOUNTED pushes a write without asking the handle.
 * BUG_TIMER_LATE joins the scheduler after the workers, BUG_LANE_FIRST the lane before them.
 * BUG_FREE_EARLY frees while another thread is still in a call: the caller's duty. */
#define NW 2
#define NH 2                    /* handles */
#define NC 2                    /* callbacks that may be accepted */
mtype = { soon, written, timer, closed_event, write, give_back, abort_all, quit };
chan ready = [10] of { mtype, byte };
chan inbox = [6] of { mtype, byte };
bit gate_closed, parker_closed, lane_gone, quiet, timers_stop, timers_gone, freed, user_done;
bit end_done[NH];
byte callers, accepted, ran, gone, writes, ended, given = 1, back = 1, fired, dropped;
byte writers[NH], closed[NH];

inline post(event, id) { atomic { assert(!parker_closed && gone < NW); ready!event,id } }

inline begin_write(h) {         /* in := the handle takes it */
#ifdef BUG_WRITE_UNCOUNTED
	atomic { in = 1; writes++ }
#else
	atomic { in = !end_done[h]; writers[h] = writers[h] + in; writes = writes + in }
#endif
}

proctype user() { bit in;
	if ::
#ifdef BUG_CHECK_FIRST
		in = !gate_closed; callers++;
#else
		atomic { callers++; in = !gate_closed };        /* one word */
#endif
		if :: in -> accepted++; post(soon, 0) :: !in fi;
		callers--
	:: skip fi;
	begin_write(0);
	if :: in -> inbox!write,0; assert(!freed) :: !in fi;    /* the bell */
	user_done = 1 }

proctype worker() { mtype event; byte h; bit in, last;
	do :: atomic { ready?event,h;
			if :: event == closed_event && back > 0 -> back--; ready!event,h  /* over budget */
			:: event == soon -> ran++ :: event == written -> assert(!closed[h]); ended++
			:: event == timer -> fired++ :: event == closed_event -> closed[h]++ fi };
		if :: event == soon || event == timer ->                /* what a callback may do */
			if :: atomic { accepted < NC -> in = !gate_closed };
				if :: atomic { in -> accepted++; ready!soon,0 } :: !in fi
			:: begin_write(1); if :: in -> inbox!write,1; assert(!lane_gone) :: !in fi
			:: atomic { given > 0 -> given--; inbox!give_back,0 }; assert(!lane_gone)
			:: skip fi
		:: event != soon && event != timer fi;
		atomic { event = 0; h = 0; in = 0 }
	:: atomic { last && empty(ready) -> break }
	:: atomic { !last && parker_closed && empty(ready) -> last = 1 } od;
	gone++ }

inline finish(h) {              /* a handle's last event, when no writer holds it */
	if :: atomic { aborting && writers[h] == 0 && !end_done[h] -> end_done[h] = 1; lives-- };
#ifdef BUG_LIFE_EARLY
		quiet = (lives == 0);
#endif
		post(closed_event, h);
		quiet = (lives == 0)
	:: !aborting || writers[h] > 0 || end_done[h] fi }

active proctype lane() { byte h, lives = NH; bit aborting;
	do :: inbox?write,h -> post(written, h);
#ifndef BUG_WRITE_UNCOUNTED
		writers[h]--;
#endif
		finish(h)
	:: inbox?give_back,_
	:: inbox?abort_all,_ -> aborting = 1; h = 0; finish(h); h = 1; finish(h)
	:: inbox?quit,_ -> break od;
	assert(empty(inbox)); lane_gone = 1 }

active proctype scheduler() {
	if :: !timers_stop -> post(timer, 0) :: timers_stop -> dropped++ fi;
	timers_stop; timers_gone = 1 }

active proctype controller() { byte i;
	inbox!abort_all,0;
#ifndef BUG_CLOSE_EARLY
	quiet;
#endif
	gate_closed = 1;
#ifndef BUG_NO_WAIT
	callers == 0;
#endif
#ifndef BUG_TIMER_LATE
	timers_stop = 1; timers_gone;
#endif
	parker_closed = 1;
#ifdef BUG_LANE_FIRST
	inbox!quit,0; lane_gone;
#endif
	gone == NW;
	timers_stop = 1; timers_gone;
#ifndef BUG_LANE_FIRST
	inbox!quit,0; lane_gone;
#endif
#ifndef BUG_FREE_EARLY
	user_done;
#endif
	freed = 1;
	user_done;
	assert(ran == accepted && ended == writes && fired + dropped == 1 && empty(ready) && empty(inbox));
	for (i : 0 .. NH - 1) { assert(closed[i] == 1 && writers[i] == 0) } }

init { atomic { run user(); run worker(); run worker() } }
