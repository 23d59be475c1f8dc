"""What is outside: a payment provider, customers' servers, and the orders that were paid."""


class Payments:
    def charge(self, order, cents):
        raise NotImplementedError("the provider's own client stands here")


class Http:
    def post(self, url, event):
        raise NotImplementedError("an HTTP client stands here")


payments, http, orders = Payments(), Http(), {}
