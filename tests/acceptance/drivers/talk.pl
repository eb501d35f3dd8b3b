# DBD::MariaDB (libmariadb), plain, compressed and by TLS. Arguments: a port, and "plain" where the server has no TLS.
use strict;
use warnings;
use DBI;

my @modes = ("", ";mariadb_compression=1");
push @modes, ";mariadb_ssl=1;mariadb_ssl_optional=1" unless ($ARGV[1] // "") eq "plain";
for my $options (@modes) {
    my $dsn = "dbi:MariaDB:database=sbtest;host=127.0.0.1;port=$ARGV[0]$options";
    my $db = DBI->connect($dsn, "driver", "driver", { RaiseError => 1, PrintError => 0, mariadb_server_prepare => 1 });
    $db->do("CREATE TEMPORARY TABLE lob (id INT AUTO_INCREMENT PRIMARY KEY, b LONGTEXT) ENGINE = InnoDB");
    $db->begin_work;
    my $blob = "0123456789abcdef" x 65536;
    my $insert = $db->prepare("INSERT INTO lob (b) VALUES (?)");
    $insert->execute($blob);
    my ($same) = $db->selectrow_array("SELECT b = ? FROM lob WHERE id = ?", undef, $blob, $insert->last_insert_id);
    $db->rollback;
    my ($count) = $db->selectrow_array("SELECT COUNT(*) FROM lob");
    eval { $db->do("SELEC 1") };
    print "DBD::MariaDB$options $same $count ", $db->err, " ", $db->ping, "\n";
    $db->disconnect;
}
