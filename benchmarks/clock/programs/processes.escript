#!/usr/bin/env escript
main(_) ->
  Main = self(),
  Begun = erlang:monotonic_time(millisecond),
  Work = fun(N) -> timer:sleep(rand:uniform(1000)), Main ! {N, erlang:monotonic_time(millisecond) - Begun} end,
  [spawn(fun() -> Work(N) end) || N <- lists:seq(1, 6)],
  [receive Message -> io:format("~p~n", [Message]) end || _ <- lists:seq(1, 6)],
  Slept = erlang:system_time(millisecond),
  timer:sleep(3600000),
  io:format("beam asked 3600.000 passed ~.3f~n", [(erlang:system_time(millisecond) - Slept) / 1000]),
  io:format("~p ~p~n", [calendar:universal_time(), os:getpid()]).
