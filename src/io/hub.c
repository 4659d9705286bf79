/* Explaining why there is no hub, and what the loop's end does to what users still have of it; see
 * hub.h. The first: any thread; the second: the controller. */
#include "hub.h"

#include "error.h"
#include "stream.h"

int hub_explained(rondo_loop *loop, struct hub **ret_hub)
{
    int error = hub_of(loop, ret_hub);

    if (error)
        return error_set(error, "%s",
                         error == -ECHILD ? "the loop belongs to the parent process"
                                          : "loop is NULL");
    return 0;
}

void hub_free_orphans(struct hub *hub)
{
    while (hub->orphans.next != &hub->orphans) {
        struct lane_handle *handle = hub->orphans.next;
        list_remove(handle);
        stream_free_orphan(handle);
    }
}
