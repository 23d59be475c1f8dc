# Charges an order for each job of the queue.
require "json"
require "net/http"
require "sidekiq"

MISTAKE = ENV.fetch("MISTAKE", "")

class Charge
  include Sidekiq::Job
  sidekiq_options queue: "payments", retry: 2
  sidekiq_retry_in { 5 }

  def perform(order)
    http = Net::HTTP.new("pay.example.com", 80)
    http.open_timeout = http.read_timeout = MISTAKE == "twice by timeout" ? 2 : 20
    http.max_retries = 0
    headers = { "content-type" => "application/json" }
    headers["idempotency-key"] = order unless ["charges twice", "twice by timeout"].include?(MISTAKE)
    reply = http.post("/charge", JSON.generate(order:), headers)
    raise "the payment failed with #{reply.code}" unless reply.code == "200"
    JSON.parse(reply.body)
  end
end
