/* Whose request is served next; see turns.h. Loop thread. */
#include "daemon/control/turns.h"

#include <stdlib.h>
#include <sys/queue.h>
#include <unistd.h>

struct place {
	struct request *request;
	TAILQ_ENTRY(place) link;
};

/* A connection with requests that wait. */
struct asker {
	uint64_t client;
	TAILQ_HEAD(, place) places; /* oldest first; never empty */
	TAILQ_ENTRY(asker) link;
};

/* A user with requests that wait, or with the one that is being served. */
struct user {
	uid_t uid;
	int count;                  /* places taken */
	TAILQ_HEAD(, asker) askers; /* the first one is served next */
	TAILQ_ENTRY(user) link;
};

struct turns {
	TAILQ_HEAD(, user) users;   /* the first one that has askers is served next */
	int count;                  /* places taken */
	struct request *served;     /* by the engine thread now, or NULL */
	struct user *served_user;
	uint64_t served_client;
};

struct turns *
turns_new(struct err *e)
{
	struct turns *t = calloc(1, sizeof *t);

	if (t == NULL) {
		err_set(e, EX_OSERR, "out of memory for requests");
		return NULL;
	}
	TAILQ_INIT(&t->users);
	return t;
}

/* ---- places --------------------------------------------------------- */

static struct user *
find_user(struct turns *t, uid_t uid)
{
	struct user *u;

	TAILQ_FOREACH(u, &t->users, link)
		if (u->uid == uid)
			break;
	return u;
}

static struct asker *
find_asker(struct user *u, uint64_t client)
{
	struct asker *a;

	TAILQ_FOREACH(a, &u->askers, link)
		if (a->client == client)
			break;
	return a;
}

/* Who has no place any more is forgotten. Returns whether u still has one. */
static bool
free_place(struct turns *t, struct user *u)
{
	t->count--;
	if (--u->count > 0)
		return true;
	TAILQ_REMOVE(&t->users, u, link);
	free(u);
	return false;
}

/* *q receives the first request. Returns whether a has more; an asker without any is freed. */
static bool
take_first(struct user *u, struct asker *a, struct request **q)
{
	struct place *first = TAILQ_FIRST(&a->places);

	*q = first->request;
	TAILQ_REMOVE(&a->places, first, link);
	free(first);
	if (!TAILQ_EMPTY(&a->places))
		return true;
	TAILQ_REMOVE(&u->askers, a, link);
	free(a);
	return false;
}

static void
drop_all(struct turns *t, struct user *u, struct asker *a)
{
	struct request *q;
	bool more;

	do {
		more = take_first(u, a, &q);
		request_free(q);
		more = free_place(t, u) && more;
	} while (more);
}

static int
check_limits(const struct turns *t, uid_t uid, const struct user *u, struct err *e)
{
	int most = uid == 0 || uid == geteuid() ? TURNS_OF_OWNER : TURNS_OF_USER;

	if (u != NULL && u->count >= most)
		return err_set(e, EX_DATAERR, "user %lld has %d requests waiting, which is the most that one user may "
		    "have: ask again when one of them is answered", (long long)uid, most);
	if (t->count >= TURNS_PLACES)
		return err_set(e, ERR_BUSY, "%d requests are waiting, which is the most that all users together may "
		    "have: ask again later", TURNS_PLACES);
	if (u != NULL && t->count >= TURNS_PLACES - TURNS_KEPT)
		return err_set(e, ERR_BUSY, "%d requests are waiting, and the last %d places are kept for users who "
		    "have none: ask again when one of yours is answered", t->count, TURNS_KEPT);
	return 0;
}

static struct user *
add_user(struct turns *t, uid_t uid)
{
	struct user *u = calloc(1, sizeof *u);

	if (u == NULL)
		return NULL;
	u->uid = uid;
	TAILQ_INIT(&u->askers);
	TAILQ_INSERT_TAIL(&t->users, u, link);
	return u;
}

static struct asker *
add_asker(struct user *u, uint64_t client)
{
	struct asker *a = calloc(1, sizeof *a);

	if (a == NULL)
		return NULL;
	a->client = client;
	TAILQ_INIT(&a->places);
	TAILQ_INSERT_TAIL(&u->askers, a, link);
	return a;
}

int
turns_add(struct turns *t, uid_t uid, struct request *q, struct err *e)
{
	struct user *u = find_user(t, uid);
	struct asker *a = u == NULL ? NULL : find_asker(u, q->client);
	struct place *p;

	if (check_limits(t, uid, u, e) < 0)
		return -1;
	if ((p = calloc(1, sizeof *p)) == NULL || (u == NULL && (u = add_user(t, uid)) == NULL) ||
	    (a == NULL && (a = add_asker(u, q->client)) == NULL)) {
		free(p);
		if (u != NULL && u->count == 0) {
			TAILQ_REMOVE(&t->users, u, link);
			free(u);
		}
		return err_set(e, EX_OSERR, "out of memory for a request");
	}
	p->request = q;
	TAILQ_INSERT_TAIL(&a->places, p, link);
	u->count++;
	t->count++;
	return 0;
}

/* ---- turns ---------------------------------------------------------- */

struct request *
turns_take(struct turns *t)
{
	struct user *u;

	if (t->served != NULL)
		return NULL;
	TAILQ_FOREACH(u, &t->users, link)
		if (!TAILQ_EMPTY(&u->askers))
			break;
	if (u == NULL)
		return NULL;
	t->served_user = u;
	t->served_client = TAILQ_FIRST(&u->askers)->client;
	take_first(u, TAILQ_FIRST(&u->askers), &t->served);
	return t->served;
}

/* Who has had a turn goes behind all others, also behind those who came meanwhile. */
void
turns_end(struct turns *t)
{
	struct user *u = t->served_user;
	struct asker *a = find_asker(u, t->served_client);

	if (a != NULL) {
		TAILQ_REMOVE(&u->askers, a, link);
		TAILQ_INSERT_TAIL(&u->askers, a, link);
	}
	TAILQ_REMOVE(&t->users, u, link);
	TAILQ_INSERT_TAIL(&t->users, u, link);
	t->served = NULL;
	free_place(t, u);
}

void
turns_drop(struct turns *t, uint64_t client)
{
	struct user *u, *next;
	struct asker *a;

	if (t->served != NULL && t->served->client == client)
		atomic_store(&t->served->cancelled, true);
	for (u = TAILQ_FIRST(&t->users); u != NULL; u = next) {
		next = TAILQ_NEXT(u, link);
		if ((a = find_asker(u, client)) != NULL)
			drop_all(t, u, a);
	}
}

void
turns_free(struct turns *t)
{
	struct user *u;

	if (t == NULL)
		return;
	if (t->served != NULL)
		turns_end(t);
	while ((u = TAILQ_FIRST(&t->users)) != NULL)
		drop_all(t, u, TAILQ_FIRST(&u->askers));
	free(t);
}

size_t
turns_get_waiting(const struct turns *t)
{
	return (size_t)(t->count - (t->served != NULL));
}
