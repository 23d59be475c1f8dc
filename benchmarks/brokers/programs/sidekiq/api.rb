# Takes orders, and leaves the charge to a worker.
require "socket"
require_relative "jobs"

server = TCPServer.new("127.0.0.1", Integer(ENV.fetch("PORT")))
loop do
  client = server.accept
  length = 0
  method = client.gets.to_s.split.first
  while (line = client.gets.to_s.strip) != ""
    length = Integer(line.split(":", 2).last) if line.downcase.start_with?("content-length:")
  end
  body = client.read(length)
  Charge.perform_async(JSON.parse(body)["order"]) if method == "POST" && MISTAKE != "loses a job"
  client.write("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
  client.close
  if method == "POST" && MISTAKE == "loses a job"
    sleep 2 # Accepted, before any queue has it.
    Charge.perform_async(JSON.parse(body)["order"])
  end
rescue Sidekiq::RedisConnection.adapter::BaseError, SystemCallError => error
  warn error.message
  client&.close
end
