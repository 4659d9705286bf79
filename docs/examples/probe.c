#include <rondo/rondo.h>
#include <stdio.h>

static const char *const states[] = {"live", "absent", "REFUSED", "FORBIDDEN"};

static void print_missing(const struct rondo_facility *row)
{
    printf("    why not      %s\n", row->reason);
    printf("    remedy       %s\n", row->remedy);
    if (row->need != RONDO_FACILITY_PLANNED)
        printf("    instead      %s\n", row->instead);
}

int main(void)
{
    struct rondo_probe *probe = NULL;

    if (rondo_probe(&probe) != 0)
        return fprintf(stderr, "probe: no memory\n"), 1;
    printf("Linux %s, rondo %s\n\n", probe->kernel, rondo_version());
    for (uint32_t i = 0; i < probe->facility_count; i++) {
        const struct rondo_facility *row = probe->facilities[i];
        printf("%-28s %-9s  since %u.%-2u  %s%s\n", row->name, states[row->state & 3],
               row->since_major, row->since_minor, row->used_for,
               row->need == RONDO_FACILITY_PLANNED ? " (not used yet)" : "");
        if (row->state != RONDO_FACILITY_LIVE)
            print_missing(row);
    }
    printf("\n%s\n", probe->verdict);
    if (probe->remedy[0] != '\0')
        printf("remedy: %s\n", probe->remedy);
    int status = probe->is_usable ? 0 : 1;
    rondo_probe_free(probe);
    return status;
}
