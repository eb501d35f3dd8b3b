<?php
// mysqli over mysqlnd, plain, compressed, by TLS and both. Arguments: a port, and "plain" where the server has no TLS.
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
$tls = MYSQLI_CLIENT_SSL | MYSQLI_CLIENT_SSL_DONT_VERIFY_SERVER_CERT;
$modes = [0, MYSQLI_CLIENT_COMPRESS, $tls, $tls | MYSQLI_CLIENT_COMPRESS];
foreach (array_slice($modes, 0, ($argv[2] ?? "") === "plain" ? 2 : 4) as $flags) {
    $db = mysqli_init();
    $db->real_connect("127.0.0.1", "driver", "driver", "sbtest", (int) $argv[1], null, $flags);
    $db->query("CREATE TEMPORARY TABLE lob (id INT AUTO_INCREMENT PRIMARY KEY, b LONGTEXT) ENGINE = InnoDB");
    $db->begin_transaction();
    $blob = str_repeat("0123456789abcdef", 65536);
    $insert = $db->prepare("INSERT INTO lob (b) VALUES (?)");
    $insert->bind_param("s", $blob);
    $insert->execute();
    $key = $db->insert_id;
    $select = $db->prepare("SELECT b FROM lob WHERE id = ?");
    $select->bind_param("i", $key);
    $select->execute();
    $same = $select->get_result()->fetch_row()[0] === $blob;
    $db->rollback();
    $count = $db->query("SELECT COUNT(*) FROM lob")->fetch_row()[0];
    try {
        $db->query("SELEC 1");
    } catch (mysqli_sql_exception $refused) {
        $error = $refused->getCode();
    }
    $db->change_user("sbtest", "sbtest", "sbtest");
    $user = $db->query("SELECT CURRENT_USER()")->fetch_row()[0];
    echo "mysqli $flags ", var_export($same, true), " $count $error $user\n";
    $db->close();
}
