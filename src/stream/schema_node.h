/* A schema as schema_parse.c makes it and schema.c reads it. */
#ifndef SINKD_STREAM_SCHEMA_NODE_H
#define SINKD_STREAM_SCHEMA_NODE_H

#include <stddef.h>

enum schema_kind { SCHEMA_OBJECT, SCHEMA_ARRAY, SCHEMA_STRING, SCHEMA_INTEGER, SCHEMA_NUMBER, SCHEMA_ENUM };

struct schema_property {
	char *key;        /* as a JSON string, with its quotes */
	size_t key_len;
	int node;
};

struct schema_literal {
	char *text;       /* JSON */
	size_t len;
};

struct schema_node {
	enum schema_kind kind;
	int min, max;     /* of an array's items, of a string's characters */
	int item;         /* of an array */
	int n;            /* properties or literals */
	struct schema_property *properties;
	struct schema_literal *literals;
};

/* Node 0 is the whole. */
struct schema {
	struct schema_node *nodes;
	int n, cap;
};

#endif
