/* libmariadb, plain, compressed, by TLS and both. Arguments: a port, and "plain" where the server has no TLS. */
#include <mysql.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOB (1 << 20)
#define PART 100000

static void stop(const char *what, const char *cause) {
    fprintf(stderr, "%s: %s\n", what, cause);
    exit(1);
}

static void query(MYSQL *db, const char *sql) {
    if (mysql_query(db, sql)) stop(sql, mysql_error(db));
}

/* The first value of a query's only row. */
static void value(MYSQL *db, const char *sql, char *out, size_t room) {
    query(db, sql);
    MYSQL_RES *rows = mysql_store_result(db);
    MYSQL_ROW row = rows ? mysql_fetch_row(rows) : NULL;
    if (!row) stop(sql, mysql_error(db));
    snprintf(out, room, "%s", row[0]);
    mysql_free_result(rows);
}

static MYSQL_STMT *prepare(MYSQL *db, const char *sql) {
    MYSQL_STMT *statement = mysql_stmt_init(db);
    if (mysql_stmt_prepare(statement, sql, strlen(sql))) stop(sql, mysql_stmt_error(statement));
    return statement;
}

/* Sends the value in parts, ahead of the execution. */
static unsigned long long insert(MYSQL *db, char *blob) {
    MYSQL_STMT *statement = prepare(db, "INSERT INTO lob (b) VALUES (?)");
    MYSQL_BIND bind = {.buffer_type = MYSQL_TYPE_LONG_BLOB};
    mysql_stmt_bind_param(statement, &bind);
    for (int at = 0; at < BLOB; at += PART) {
        mysql_stmt_send_long_data(statement, 0, blob + at, BLOB - at < PART ? BLOB - at : PART);
    }
    if (mysql_stmt_execute(statement)) stop("insert", mysql_stmt_error(statement));
    unsigned long long key = mysql_stmt_insert_id(statement);
    mysql_stmt_close(statement);
    return key;
}

/* Reads it back through a cursor. */
static int same(MYSQL *db, unsigned long long key, const char *blob) {
    MYSQL_STMT *statement = prepare(db, "SELECT b FROM lob WHERE id = ?");
    unsigned long cursor = CURSOR_TYPE_READ_ONLY, length = 0;
    mysql_stmt_attr_set(statement, STMT_ATTR_CURSOR_TYPE, &cursor);
    MYSQL_BIND in = {.buffer_type = MYSQL_TYPE_LONGLONG, .buffer = &key};
    mysql_stmt_bind_param(statement, &in);
    if (mysql_stmt_execute(statement)) stop("select", mysql_stmt_error(statement));
    char *back = malloc(BLOB);
    MYSQL_BIND out = {.buffer_type = MYSQL_TYPE_LONG_BLOB, .buffer = back, .buffer_length = BLOB, .length = &length};
    mysql_stmt_bind_result(statement, &out);
    int found = mysql_stmt_fetch(statement) == 0 && length == BLOB && memcmp(back, blob, BLOB) == 0;
    mysql_stmt_close(statement);
    free(back);
    return found;
}

static void talk(unsigned port, int compress, int tls) {
    MYSQL *db = mysql_init(NULL);
    char no = 0, yes = 1, count[20], user[80], *blob = malloc(BLOB);
    for (int at = 0; at < BLOB; at++) blob[at] = (char)(at * 2654435761u >> 13);
    if (compress) mysql_options(db, MYSQL_OPT_COMPRESS, NULL);
    mysql_options(db, MYSQL_OPT_SSL_ENFORCE, tls ? &yes : &no);
    mysql_options(db, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &no);
    if (!mysql_real_connect(db, "127.0.0.1", "driver", "driver", "sbtest", port, NULL, CLIENT_MULTI_STATEMENTS)) {
        stop("connect", mysql_error(db));
    }
    query(db, "CREATE TEMPORARY TABLE lob (id INT AUTO_INCREMENT PRIMARY KEY, b LONGBLOB) ENGINE = InnoDB");
    mysql_autocommit(db, 0);
    int right = same(db, insert(db, blob), blob);
    mysql_rollback(db);
    mysql_autocommit(db, 1);
    value(db, "SELECT COUNT(*) FROM lob", count, sizeof count);
    int results = 1;
    for (query(db, "DO 1; DO 2; SELEC 1"); mysql_next_result(db) == 0;) results++;
    unsigned error = mysql_errno(db);
    /* MySQL 5.6 does not know this one, and keeps the table. */
    unsigned reset = mysql_reset_connection(db) ? mysql_errno(db) : 0;
    unsigned gone = mysql_query(db, "DELETE FROM lob") ? mysql_errno(db) : 0;
    const char *cipher = mysql_get_ssl_cipher(db) ? "encrypted" : "open";
    if (mysql_change_user(db, "sbtest", "sbtest", "sbtest")) {
        snprintf(user, sizeof user, "%u", mysql_errno(db));
    } else {
        value(db, "SELECT CURRENT_USER()", user, sizeof user);
    }
    printf("libmariadb compress=%d tls=%d %d %s %d %u %u %u %s %s\n", compress, tls, right, count, results, error, reset,
           gone, user, cipher);
    mysql_close(db);
    free(blob);
}

int main(int count, char **arguments) {
    if (count < 2) stop(arguments[0], "arguments: a port");
    for (int tls = 0; tls <= (count < 3 || strcmp(arguments[2], "plain") != 0); tls++) {
        for (int compress = 0; compress <= 1; compress++) talk(atoi(arguments[1]), compress, tls);
    }
    return 0;
}
