/* What the loop's end does to what users still have of it; see hub.h. Controller. */
#include "hub.h"

#include "stream.h"

void hub_free_orphans(struct hub *hub)
{
    while (hub->orphans.next != &hub->orphans) {
        struct lane_handle *handle = hub->orphans.next;
        list_remove(handle);
        stream_free_orphan(handle);
    }
}
