<?php
$t = hrtime(true);
sleep(3600);
usleep(250000);
printf("php asked 3600.250 passed %.3f\n", (hrtime(true) - $t) / 1e9);
[$a, $b] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
stream_set_timeout($a, 30);
$t = microtime(true);
fgets($a);
printf("%.2f\n", microtime(true) - $t);
$read = [$a]; $write = $except = null;
$t = microtime(true);
echo stream_select($read, $write, $except, 12), "\n";
printf("%.2f %s %s %d %s\n", microtime(true) - $t, date('c'), bin2hex(random_bytes(4)), mt_rand(), uniqid());
echo shell_exec('sleep 4; date +%s.%N');
