//! Lists that look at deliveries one by one do so for a while only, and page by page find all the same.

use super::*;

fn a_handler_with_few_deliveries_is_found_among_many_others_page_by_page(on: On) {
    let fixture = Fixture::new(on, |_| {});
    let files = fixture.store.handler("files").unwrap();
    for number in 0..30 {
        let mut new = fixture.event(number, None);
        if number % 11 == 0 {
            new.owed.push(Owed { handler: files, ordered: false });
        }
        fixture.runtime.block_on(fixture.store.append(new)).unwrap();
    }
    let (mut found, mut pages, mut cursor) = (Vec::new(), 0, None);
    loop {
        let filter = DeliveryFilter { handler: Some("files".to_owned()), ..DeliveryFilter::default() };
        let page = fixture.runtime.block_on(fixture.store.deliveries(filter, 2, cursor.as_deref())).unwrap();
        assert!(page.items.iter().all(|delivery| delivery.handler == "files"));
        found.extend(page.items.iter().map(|delivery| delivery.event_id));
        pages += 1;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, [22, 11, 0].map(|number| EventId::from_u128(number + 1)));
    assert!(pages > 3, "none looks at everything");
}

on_both! {
    a_handler_with_few_deliveries_is_found_among_many_others_page_by_page,
}
