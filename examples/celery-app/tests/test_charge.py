from shop.tasks import charge


def test_an_order_is_charged_once(job_harness, shop, charges):
    result = charge.delay("order-1", 4200)
    job_harness.run_until_idle()
    assert result.state == "SUCCESS"
    assert charges == [("order-1", 4200)]
